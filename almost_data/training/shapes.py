"""Rows of any layout as messages, so that one chat template writes all of them.

Each function takes a `Source` as it was opened. Rows that have no such shape are left out and counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import polars as pl

from ..datasets.builder import prompt_id, text_id
from ..datasets.digest import splits
from ..errors import InputError
from ..models.chat import Message, assistant_turn
from ..readers.conversations import read_turns
from ..readers.detection import choose
from ..readers.dialogue_text import is_hh, read_hh
from ..readers.files import SAMPLE
from ..readers.layout import Preference
from ..readers.preferences import ReadRow, Rejected, by_columns, read_all
from ..readers.reasons import Unusable
from ..store.sources import check_sides
from .data import Source

Messages = list[Message]
Row = dict[str, Any]
Shape = Callable[[Row, str], Row]
"""Makes the new columns of a row; the text is the row's place, for errors."""
ShapedRow = tuple[Row, list[Row] | InputError]
"""A row, and the new ones that it comes to."""
Reader = Callable[[Iterable[tuple[str, Row]]], Iterator[ShapedRow]]
"""Shapes rows with their places."""

_MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "messages")
_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def first_prompts(dialogues: pl.Series) -> pl.Series:
    """The turns of each dialogue before its first reply."""
    turns = (list(takewhile(lambda turn: turn["role"] != "assistant", rows)) for rows in dialogues.to_list())
    return pl.Series(list(turns), dtype=_MESSAGES)


def comparisons(source: Source) -> Source:
    """The rows as `query_id`, `prompt`, `chosen`, `rejected`, and the two responders where they are known.

    Reads every layout of `readers.layouts`. `prompt` ends in a user's turn, and `chosen` and `rejected` are
    one assistant's turn. Raises InputError where no layout fits, or no row has this shape.
    """
    responders = ("chosen_responder", "rejected_responder")
    rows = source.train
    copied = tuple(
        name for name in responders if name in source.columns and rows[name].null_count() < len(rows)
    )
    return _shaped(source, _preference_reader(source, _comparison), copied)


def comparisons_of(source: Source, rows: Iterable[ReadRow]) -> Source:
    """The source with the comparisons of rows of a file as its train split; none is held out."""
    train, errors, _ = _collected(source, _shaped_preferences(rows, _comparison))
    unusable = len(errors), next(iter(errors), "")
    return replace(source, train=train, read=len(train) + len(errors), unusable=unusable)


def dialogues(source: Source) -> Source:
    """The rows as `query_id` and `messages`, for SFT: each ends in the assistant's turn.

    Reads `messages`; `prompt` with `completion` or `response`; and comparisons, where the chosen side is
    learned. Raises InputError for anything else.
    """
    if "messages" in source.columns and not source.assignments:
        return _shaped(source, _row_reader(_dialogue))
    replies = [name for name in ("completion", "response", "chosen") if name in source.columns]
    if source.assignments:
        return _shaped(source, _preference_reader(source, _chosen_dialogue))
    if not replies:
        raise InputError(
            f"{source.parent.ref}: no dialogues in {', '.join(sorted(source.columns))}: SFT reads messages, "
            "or prompt with completion, response or chosen"
        )
    reply = replies[0]
    if reply == "chosen":
        return _shaped(source, _preference_reader(source, _chosen_dialogue))

    def shape(row: Row, place: str) -> Row:
        turns = _turns(row.get("prompt"), "user", place) + _turns(row[reply], "assistant", place)
        return _dialogue({"messages": turns}, place)

    return _shaped(source, _row_reader(shape))


def prompts(source: Source) -> Source:
    """The prompts as `query_id` and `prompt`, each once: what PPO and RLOO answer.

    The prompt of a dialogue is the turns that its `query_id` names, else those up to the first user's turn.
    """

    names = () if source.assignments else ("messages", "prompt", "query")
    columns = [name for name in names if name in source.columns]

    def shape(row: Row, place: str) -> Row:
        if column := next((name for name in columns if row.get(name)), None):
            return {"prompt": _turns(row[column], "user", place)}
        raise InputError(f"{place}: no prompt: give messages, prompt or query")

    def distinct(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame.select("query_id", "prompt").unique("query_id", keep="first", maintain_order=True)
        prompts = [_prompt_of(turns, query_id) for query_id, turns in rows.iter_rows()]
        return rows.with_columns(prompt=pl.Series(prompts, dtype=_MESSAGES))

    reader = _row_reader(shape) if columns else _preference_reader(source, _comparison)
    shaped = _shaped(source, reader)
    train = distinct(shaped.train)
    return replace(shaped, train=train, test=distinct(shaped.test), repeated=len(shaped.train) - len(train))


def _shaped(source: Source, reader: Reader, copied: tuple[str, ...] = ()) -> Source:
    """The source with both splits in their new shape, and `copied` columns as they are.

    Without a test split, a hash of the prompt's text holds rows out.
    """
    train, errors, several_turns = _shaped_split(source, source.train, source.splits[0], reader, copied)
    test, _, _ = _shaped_split(source, source.test, source.splits[1], reader, copied)
    ref = source.parent.ref
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
        read=len(source.train) + source.unusable[0],
        unusable=(source.unusable[0] + len(errors), source.unusable[1] or next(iter(errors), "")),
        several_turns=several_turns,
        leaked=int(is_leaked.sum()),
    )


def _row_reader(shape: Shape) -> Reader:
    def read(rows: Iterable[tuple[str, Row]]) -> Iterator[ShapedRow]:
        for place, row in rows:
            try:
                yield row, [shape(row, place)]
            except InputError as error:
                yield row, error

    return read


def _preference_reader(source: Source, shape: Callable[[Preference], Row]) -> Reader:
    """Reads preferences by the one layout that fits. Raises InputError where there is none."""
    sample = source.train.head(SAMPLE).rows(named=True)
    if not sample:
        raise InputError(f"{source.parent.ref}: nothing to train on: it has no row")
    named = by_columns(source.assignments) if source.assignments else None
    try:
        layout = choose(named, sample, source.parent.ref, sorted(source.columns))
    except InputError:
        if source.manifest and not named:
            check_sides(source.manifest, source.config or "default")
        raise

    return lambda rows: _shaped_preferences(read_all(layout, rows), shape)


def _shaped_preferences(rows: Iterable[ReadRow], shape: Callable[[Preference], Row]) -> Iterator[ShapedRow]:
    for read_row in rows:
        result: list[Row] | InputError
        if isinstance(read_row.result, Rejected):
            result = InputError(f"{read_row.place}: {read_row.result.detail}")
        elif any(_opening(preference.prompt) != "user" for preference in read_row.result):
            result = InputError(f"{read_row.place}: its prompt does not begin with a user's turn")
        else:
            result = [shape(preference) for preference in read_row.result]
        yield dict(read_row.row), result


def _shaped_split(
    source: Source, frame: pl.DataFrame, name: str, reader: Reader, copied: tuple[str, ...]
) -> tuple[pl.DataFrame, list[str], int]:
    """The split's rows in their new shape, as `_collected` gives them."""
    rows = enumerate(frame.iter_rows(named=True))
    places = ((f"{source.parent.ref}: {name} row {number}", row) for number, row in rows)
    return _collected(source, reader(places), copied)


def _collected(
    source: Source, shaped_rows: Iterable[ShapedRow], copied: tuple[str, ...] = ()
) -> tuple[pl.DataFrame, list[str], int]:
    """The rows in their new shape, the errors of unreadable rows, and the rows of several turns.

    Raises InputError where all rows are unreadable.
    """
    rows: list[Row] = []
    errors: list[str] = []
    several_turns = 0
    for row, result in shaped_rows:
        if isinstance(result, InputError):
            errors.append(str(result))
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
    if errors and not rows and not several_turns:
        raise InputError(errors[0])
    columns = dict.fromkeys(column for row in rows for column in row)
    schema = {column: _MESSAGES if column in _MESSAGE_COLUMNS else pl.String() for column in columns}
    return pl.DataFrame(rows, schema=schema), errors, several_turns


def _comparison(preference: Preference) -> Row:
    sides = {"chosen": preference.chosen.text, "rejected": preference.rejected.text}
    replies = {side: [assistant_turn(text.strip())] for side, text in sides.items()}
    return {"prompt": _joined(preference.prompt), **replies}


def _chosen_dialogue(preference: Preference) -> Row:
    comparison = _comparison(preference)
    return {"messages": comparison["prompt"] + comparison["chosen"]}


def _dialogue(row: Row, place: str) -> Row:
    turns = _turns(row["messages"], "user", place)
    if turns[-1]["role"] != "assistant":
        raise InputError(f"{place}: its messages do not end in the assistant's turn")
    return {"messages": turns}


def _turns(value: Any, role: str, place: str) -> Messages:
    """The joined turns of a value; a text is one turn of `role`, or a user's dialogue in HH-RLHF's layout."""
    try:
        turns = read_hh(value) if role == "user" and is_hh(value) else read_turns(value)
    except Unusable as error:
        raise InputError(f"{place}: {error}") from None
    joined = _joined(({"role": role, "content": value},) if turns is None else turns)
    if not joined or (role == "user" and _opening(joined) != "user"):
        raise InputError(f"{place}: it does not begin with a user's turn")
    return joined


def _opening(turns: Sequence[Message]) -> str | None:
    """The role of the first turn behind a system turn."""
    return next((turn["role"] for turn in turns if turn["role"] != "system"), None)


def _prompt_of(turns: Messages, query_id: str) -> Messages:
    """The turns up to the last, if that is the user's; of a dialogue, those that its query_id names."""
    ends = [place for place, turn in enumerate(turns, start=1) if turn["role"] == "user"]
    if ends[-1] == len(turns):
        return turns
    return turns[: next((end for end in ends if prompt_id(turns[:end]) == query_id), ends[0])]


def _joined(turns: Sequence[Message]) -> Messages:
    """Turns in which repeated turns of one role are one."""
    joined: Messages = []
    for turn in turns:
        role, text = turn["role"], turn["content"].strip()
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] = f"{joined[-1]['content']}\n\n{text}".strip()
        else:
            joined.append({"role": role, "content": text})
    return joined
