"""Rows that are read one by one become two splits, with an account of those that are left out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ..datasets.builder import text_id
from ..datasets.digest import splits
from ..errors import InputError
from ..readers.preferences import Rejected
from ..readers.reasons import Unusable
from .data import Source

Row = dict[str, Any]
Shape = Callable[[str, Row], Row]
"""Makes the new columns of a row at a place. Raises Unusable."""
ShapedRow = tuple[Row, list[Row] | Rejected]
"""A row, and the new ones that it comes to."""


@dataclass(frozen=True)
class Reader:
    """How the rows of a source are read."""

    described: str
    """The layout and the columns."""
    read: Callable[[Iterable[tuple[str, Row]]], Iterator[ShapedRow]]
    """Shapes rows with their places."""


MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "messages")


def row_reader(described: str, shape: Shape) -> Reader:
    """Reads rows one by one; a row that is Unusable is rejected with its place."""

    def read(rows: Iterable[tuple[str, Row]]) -> Iterator[ShapedRow]:
        for place, row in rows:
            try:
                yield row, [shape(place, row)]
            except Unusable as error:
                yield row, Rejected(error.reason, f"{place}: {error}")

    return Reader(described, read)


def shape_splits(source: Source, reader: Reader, copied: tuple[str, ...] = ()) -> Source:
    """The source with both splits in their new shape, and `copied` columns as they are.

    Without a test split, a hash of the prompt's text holds rows out.
    """
    train, rejected, several_turns = _shape_split(source, source.train, source.splits[0], reader, copied)
    test, _, _ = _shape_split(source, source.test, source.splits[1], reader, copied)
    ref, rows_read = source.parent.ref, len(train)
    if several_turns and not len(train):
        raise InputError(f"{ref}: recipe.single_turn: no row has one user turn: {several_turns} have more")
    if len(train) and not source.has_test:
        by_split = splits(train)
        train, test = (by_split.get(name, train.clear()) for name in ("train", "test"))
    if not len(train):
        reason = "a hash of the prompt holds out every row" if len(source.train) else "it has no row"
        raise InputError(f"{ref}: nothing to train on: {reason}")
    test = test if len(test) else train.clear()
    is_leaked = test["query_id"].is_in(train["query_id"].unique().implode())
    return replace(
        source,
        train=train,
        test=test.filter(~is_leaked),
        read=rows_read + len(rejected) + several_turns,
        read_as=reader.described,
        **unusable(rejected),
        several_turns=several_turns,
        leaked=int(is_leaked.sum()),
    )


def _shape_split(
    source: Source, frame: pl.DataFrame, name: str, reader: Reader, copied: tuple[str, ...]
) -> tuple[pl.DataFrame, list[Rejected], int]:
    """The split's rows in their new shape, as `collect` gives them."""
    rows = enumerate(frame.iter_rows(named=True))
    places = ((f"{source.parent.ref}: {name} row {number}", row) for number, row in rows)
    return collect(source, reader.read(places), copied)


def collect(
    source: Source, shaped_rows: Iterable[ShapedRow], copied: tuple[str, ...] = ()
) -> tuple[pl.DataFrame, list[Rejected], int]:
    """The rows in their new shape, the unreadable rows, and the number of rows of several turns.

    Raises InputError where all rows are unreadable.
    """
    rows: list[Row] = []
    rejected: list[Rejected] = []
    several_turns = 0
    for row, result in shaped_rows:
        if isinstance(result, Rejected):
            rejected.append(result)
            continue
        turns = result[0].get("prompt") or result[0]["messages"]
        if source.single_turn and sum(turn["role"] == "user" for turn in turns) > 1:
            several_turns += 1
            continue
        # A foreign query_id may be anything, and the split follows its hash.
        own_id = source.manifest and row.get("query_id")
        # Of the first turn, so that dialogues with one beginning, and RM and SFT, are split alike.
        first = next(turn["content"] for turn in turns if turn["role"] == "user")
        query_id = own_id or text_id(first)
        copies = {column: row.get(column) for column in copied}
        rows += [{"query_id": query_id, **shaped, **copies} for shaped in result]
    if rejected and not rows and not several_turns:
        raise InputError(rejected[0].detail)
    columns = dict.fromkeys(column for row in rows for column in row)
    schema = {column: MESSAGES if column in _MESSAGE_COLUMNS else pl.String() for column in columns}
    return pl.DataFrame(rows, schema=schema), rejected, several_turns


def unusable(rejected: Sequence[Rejected]) -> dict[str, Any]:
    """The fields of a source on the rows that cannot be used."""
    first = rejected[0].detail if rejected else ""
    reasons = dict(Counter(row.reason for row in rejected).most_common())
    return {"unusable": (len(rejected), first), "reasons": reasons}
