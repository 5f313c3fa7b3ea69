"""Rows of any layout as messages, so that one chat template writes all of them.

Each function takes a `Source` as it was opened. Foreign rows are read by `readers`, as imports read
them; rows that have no such shape are left out, and counted by reason.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import polars as pl

from ..datasets.builder import prompt_id
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
from .shaping import MESSAGES, Reader, Row, ShapedRow, collect, row_reader, shape_splits, unusable

Messages = list[Message]
NO_USER_FIRST = "no_user_turn_first"
"""Reason of a row that begins with a reply, which no chat template takes."""
_NO_USER_FIRST = "it does not begin with a user's turn"


def first_prompts(dialogues: pl.Series) -> pl.Series:
    """The turns of each dialogue before its first reply."""
    turns = (list(takewhile(lambda turn: turn["role"] != "assistant", rows)) for rows in dialogues.to_list())
    return pl.Series(list(turns), dtype=MESSAGES)


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
    return shape_splits(source, _preference_reader(source, _comparison), copied)


def comparisons_of(source: Source, preferences: Preferences) -> Source:
    """The source with the comparisons of a file as its train split; none is held out."""
    train, rejected, _ = collect(source, _shaped_preferences(preferences.rows, _comparison))
    read = len(train) + len(rejected)
    return replace(source, train=train, read=read, read_as=preferences.described, **unusable(rejected))


def dialogues(source: Source) -> Source:
    """The rows as `query_id` and `messages`, for SFT: each ends in the assistant's turn.

    Reads whole dialogues, prompts with replies, and comparisons, where the chosen side is learned. Raises
    InputError for anything else.
    """
    if _is_ours(source, "messages"):
        return shape_splits(source, row_reader("dialogues (messages)", _dialogue))
    if _is_ours(source, "prompt") and "response" in source.columns:
        return shape_splits(source, row_reader("prompt (prompt), reply (response)", _reply_dialogue))
    sample, names = _sample(source), sorted(source.columns)
    if _has_sides(source) or (not source.assignments and any(layout.fits(sample) for layout in LAYOUTS)):
        return shape_splits(source, _preference_reader(source, _chosen_dialogue))
    columns = find_dialogues(names, sample, source.parent.ref, _roles(source, "prompt", "system", "response"))

    def shape(place: str, row: Row) -> Row:
        dialogue = columns.read(place, row)
        return {"messages": [*_checked(dialogue.prompt), assistant_turn(dialogue.reply.strip())]}

    return shape_splits(source, row_reader(_read_as(source, columns.described, columns.columns), shape))


def prompts(source: Source) -> Source:
    """The prompts as `query_id` and `prompt`, each once: what PPO and RLOO answer.

    The prompt of a dialogue is the turns that its `query_id` names, else those up to the first user's turn.
    Raises InputError where the prompts cannot be told.
    """
    reader, are_dialogues = _prompt_reader(source)

    def distinct(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame.select("query_id", "prompt").unique("query_id", keep="first", maintain_order=True)
        prompts = [_prompt_of(turns, query_id, are_dialogues) for query_id, turns in rows.iter_rows()]
        return rows.with_columns(prompt=pl.Series(prompts, dtype=MESSAGES))

    shaped = shape_splits(source, reader)
    train = distinct(shaped.train)
    return replace(shaped, train=train, test=distinct(shaped.test), repeated=len(shaped.train) - len(train))


def _prompt_reader(source: Source) -> tuple[Reader, bool]:
    """The reader of prompts, and whether these go on behind the first user's turn with earlier replies."""
    if name := next((name for name in ("messages", "prompt") if _is_ours(source, name)), None):
        return row_reader(f"prompt ({name})", lambda place, row: {"prompt": _turns(row[name])}), False
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
    reader = row_reader(
        _read_as(source, described, column.columns),
        lambda place, row: {"prompt": _checked(column.read(place, row))},
    )
    return reader, column.has_replies


def _is_ours(source: Source, column: str) -> bool:
    """Whether a column of a dataset of almost_data holds messages, and the user names no columns."""
    is_ours = source.manifest is not None and not source.assignments
    return is_ours and source.train.schema.get(column) == MESSAGES


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
