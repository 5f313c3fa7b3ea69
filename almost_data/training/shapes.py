"""Rows of any layout as messages, so that one chat template writes all of them.

Each function takes a `Source` as it was opened. Foreign rows are read by `readers`, as imports read
them; rows that have no such shape are left out, and counted by reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import polars as pl

from ..datasets.builder import prompt_id, text_id
from ..datasets.digest import splits
from ..errors import InputError
from ..models.chat import Message, assistant_turn
from ..readers.conversations import read_turns
from ..readers.detection import choose
from ..readers.dialogues import find_dialogues, find_prompts
from ..readers.files import SAMPLE, not_read
from ..readers.layout import SIDES, Preference
from ..readers.layouts import LAYOUTS
from ..readers.preferences import Preferences, ReadRow, Rejected, by_columns, read_all, unread
from ..readers.reasons import Unusable
from ..store.sources import check_sides
from .data import Source

Messages = list[Message]
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


_MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "messages")
NO_USER_FIRST = "no_user_turn_first"
"""Reason of a row that begins with a reply, which no chat template takes."""
_NO_USER_FIRST = "it does not begin with a user's turn"
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


def comparisons_of(source: Source, preferences: Preferences) -> Source:
    """The source with the comparisons of a file as its train split; none is held out."""
    train, rejected, _ = _collected(source, _shaped_preferences(preferences.rows, _comparison))
    read = len(train) + len(rejected)
    return replace(source, train=train, read=read, read_as=preferences.described, **_unusable(rejected))


def dialogues(source: Source) -> Source:
    """The rows as `query_id` and `messages`, for SFT: each ends in the assistant's turn.

    Reads whole dialogues, prompts with replies, and comparisons, where the chosen side is learned. Raises
    InputError for anything else.
    """
    if _is_ours(source, "messages"):
        return _shaped(source, _row_reader("dialogues (messages)", _dialogue))
    if _is_ours(source, "prompt") and "response" in source.columns:
        return _shaped(source, _row_reader("prompt (prompt), reply (response)", _reply_dialogue))
    sample, names = _sample(source), sorted(source.columns)
    if _has_sides(source) or (not source.assignments and any(layout.fits(sample) for layout in LAYOUTS)):
        return _shaped(source, _preference_reader(source, _chosen_dialogue))
    columns = find_dialogues(names, sample, source.parent.ref, _roles(source, "prompt", "system", "response"))

    def shape(place: str, row: Row) -> Row:
        dialogue = columns.read(place, row)
        return {"messages": [*_checked(dialogue.prompt), assistant_turn(dialogue.reply.strip())]}

    return _shaped(source, _row_reader(_read_as(source, columns.described, columns.columns), shape))


def prompts(source: Source) -> Source:
    """The prompts as `query_id` and `prompt`, each once: what PPO and RLOO answer.

    The prompt of a dialogue is the turns that its `query_id` names, else those up to the first user's turn.
    Raises InputError where the prompts cannot be told.
    """
    reader, are_dialogues = _prompt_reader(source)

    def distinct(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame.select("query_id", "prompt").unique("query_id", keep="first", maintain_order=True)
        prompts = [_prompt_of(turns, query_id, are_dialogues) for query_id, turns in rows.iter_rows()]
        return rows.with_columns(prompt=pl.Series(prompts, dtype=_MESSAGES))

    shaped = _shaped(source, reader)
    train = distinct(shaped.train)
    return replace(shaped, train=train, test=distinct(shaped.test), repeated=len(shaped.train) - len(train))


def _prompt_reader(source: Source) -> tuple[Reader, bool]:
    """The reader of prompts, and whether these go on behind the first user's turn with earlier replies."""
    if name := next((name for name in ("messages", "prompt") if _is_ours(source, name)), None):
        return _row_reader(f"prompt ({name})", lambda place, row: {"prompt": _turns(row[name])}), False
    if _has_sides(source):
        return _preference_reader(source, _comparison), False
    sample, ref = _sample(source), source.parent.ref
    roles = _roles(source, "prompt", "system")
    try:
        column = find_prompts(sorted(source.columns), sample, ref, roles)
    except InputError:
        # such as two conversations, of which each begins with the prompt
        if source.assignments or not any(layout.fits(sample) for layout in LAYOUTS):
            raise
        return _preference_reader(source, _comparison), False
    part = ": the turns up to the first of the user" if column.has_replies else ""
    described = f"prompt ({replace(column, has_replies=False).described}{part})"
    reader = _row_reader(
        _read_as(source, described, column.columns),
        lambda place, row: {"prompt": _checked(column.read(place, row))},
    )
    return reader, column.has_replies


def _is_ours(source: Source, column: str) -> bool:
    """Whether a column of a dataset of almost_data holds messages, and the user names no columns."""
    is_ours = source.manifest is not None and not source.assignments
    return is_ours and source.train.schema.get(column) == _MESSAGES


def _has_sides(source: Source) -> bool:
    """Whether there is a chosen and a rejected side; of columns that the user names, among those."""
    return set(SIDES) <= (source.assignments.keys() or source.columns)


def _roles(source: Source, *roles: str) -> dict[str, str]:
    """What the user says of columns. Raises InputError for anything but these roles."""
    if foreign_role := next((role for role in source.assignments if role not in roles), None):
        fix = f"name {'=NAME,'.join(roles)}=NAME, or chosen and rejected"
        raise InputError(f"import.columns {foreign_role}={source.assignments[foreign_role]}: {fix}")
    return dict(source.assignments)


def _sample(source: Source) -> list[Row]:
    """The first rows, by which the layout is told. Raises InputError where there are none."""
    if not len(source.train):
        raise InputError(f"{source.parent.ref}: nothing to train on: it has no row")
    return source.train.head(SAMPLE).rows(named=True)


def _read_as(source: Source, described: str, columns: Sequence[str]) -> str:
    """How a source is read, and which of its columns are none of these."""
    return described + not_read(name for name in source.train.columns if name not in columns)


def _shaped(source: Source, reader: Reader, copied: tuple[str, ...] = ()) -> Source:
    """The source with both splits in their new shape, and `copied` columns as they are.

    Without a test split, a hash of the prompt's text holds rows out.
    """
    train, rejected, several_turns = _shaped_split(source, source.train, source.splits[0], reader, copied)
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
        read=len(source.train),
        read_as=reader.described,
        **_unusable(rejected),
        several_turns=several_turns,
        leaked=int(is_leaked.sum()),
    )


def _unusable(rejected: Sequence[Rejected]) -> dict[str, Any]:
    """The fields of a source on the rows that cannot be used."""
    first = rejected[0].detail if rejected else ""
    reasons = dict(Counter(row.reason for row in rejected).most_common())
    return {"unusable": (len(rejected), first), "reasons": reasons}


def _row_reader(described: str, shape: Shape) -> Reader:
    def read(rows: Iterable[tuple[str, Row]]) -> Iterator[ShapedRow]:
        for place, row in rows:
            try:
                yield row, [shape(place, row)]
            except Unusable as error:
                yield row, Rejected(error.reason, f"{place}: {error}")

    return Reader(described, read)


def _preference_reader(source: Source, shape: Callable[[Preference], Row]) -> Reader:
    """Reads preferences by the one layout that fits. Raises InputError where there is none."""
    sample = _sample(source)
    named = by_columns(source.assignments) if source.assignments else None
    try:
        layout = choose(named, sample, source.parent.ref, sorted(source.columns))
    except InputError:
        if source.manifest and not named:
            check_sides(source.manifest, source.config or "default")
        raise

    names = [] if source.manifest else unread(layout, source.train.columns)
    described = layout.described + not_read(names)
    return Reader(described, lambda rows: _shaped_preferences(read_all(layout, rows), shape))


def _shaped_preferences(rows: Iterable[ReadRow], shape: Callable[[Preference], Row]) -> Iterator[ShapedRow]:
    for read_row in rows:
        result: list[Row] | Rejected
        if isinstance(read_row.result, Rejected):
            result = Rejected(read_row.result.reason, f"{read_row.place}: {read_row.result.detail}")
        elif any(_opening(preference.prompt) != "user" for preference in read_row.result):
            result = Rejected(NO_USER_FIRST, f"{read_row.place}: {_NO_USER_FIRST}")
        else:
            result = [shape(preference) for preference in read_row.result]
        yield dict(read_row.row), result


def _shaped_split(
    source: Source, frame: pl.DataFrame, name: str, reader: Reader, copied: tuple[str, ...]
) -> tuple[pl.DataFrame, list[Rejected], int]:
    """The split's rows in their new shape, as `_collected` gives them."""
    rows = enumerate(frame.iter_rows(named=True))
    places = ((f"{source.parent.ref}: {name} row {number}", row) for number, row in rows)
    return _collected(source, reader.read(places), copied)


def _collected(
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
    schema = {column: _MESSAGES if column in _MESSAGE_COLUMNS else pl.String() for column in columns}
    return pl.DataFrame(rows, schema=schema), rejected, several_turns


def _comparison(preference: Preference) -> Row:
    sides = {"chosen": preference.chosen.text, "rejected": preference.rejected.text}
    replies = {side: [assistant_turn(text.strip())] for side, text in sides.items()}
    return {"prompt": _joined(preference.prompt), **replies}


def _chosen_dialogue(preference: Preference) -> Row:
    comparison = _comparison(preference)
    return {"messages": comparison["prompt"] + comparison["chosen"]}


def _dialogue(place: str, row: Row) -> Row:
    turns = _turns(row["messages"])
    if turns[-1]["role"] != "assistant":
        raise Unusable("not_one_reply", "its messages do not end in the assistant's turn")
    if not turns[-1]["content"]:
        raise Unusable("no_reply")
    return {"messages": turns}


def _reply_dialogue(place: str, row: Row) -> Row:
    if not (reply := (row["response"] or "").strip()):
        raise Unusable("no_reply")
    return {"messages": [*_turns(row["prompt"]), assistant_turn(reply)]}


def _turns(value: Any) -> Messages:
    """The joined turns of messages of ours. Raises Unusable."""
    return _checked(read_turns(value or ()) or ())


def _checked(turns: Sequence[Message]) -> Messages:
    """The joined turns, if the first is the user's behind a system turn. Raises Unusable."""
    joined = _joined(turns)
    if _opening(joined) != "user":
        raise Unusable(NO_USER_FIRST, _NO_USER_FIRST)
    return joined


def _opening(turns: Sequence[Message]) -> str | None:
    """The role of the first turn behind a system turn."""
    return next((turn["role"] for turn in turns if turn["role"] != "system"), None)


def _prompt_of(turns: Messages, query_id: str, is_dialogue: bool) -> Messages:
    """The turns up to the last, if that is the user's; of a dialogue, those that its query_id names."""
    ends = [place for place, turn in enumerate(turns, start=1) if turn["role"] == "user"]
    if ends[-1] == len(turns) and not is_dialogue:
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
