"""Rows of any layout as messages, so that one chat template writes all of them.

Each function takes a `Source` as it was opened. Rows that have no such shape are left out and counted.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from typing import Any

import polars as pl

from ..datasets.builder import text_id
from ..datasets.digest import splits
from ..errors import InputError
from .data import Source

Message = dict[str, str]
Messages = list[Message]
Row = dict[str, Any]
Shape = Callable[[Row, str], Row]
"""Makes the new columns of a row; the text is the row's place, for errors."""

_HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "messages")
_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def comparisons(source: Source) -> Source:
    """The rows as `query_id`, `prompt`, `chosen`, `rejected`, and the two responders where they are columns.

    Reads every preference format of TRL: messages or text, with the prompt in its own column or at the
    head of both sides. Reads HH-RLHF too, where one text is a whole dialogue. `prompt` ends in a user's
    turn, and `chosen` and `rejected` are one assistant's turn. Raises InputError where no row has this shape.
    """
    for column in ("chosen", "rejected"):
        if column not in source.columns:
            raise InputError(
                f"{source.parent.ref}: no column {column!r}, which comparisons need; "
                f"it has: {', '.join(sorted(source.columns))}"
            )
    responders = ("chosen_responder", "rejected_responder")
    return _shaped(source, _comparison, tuple(name for name in responders if name in source.columns))


def dialogues(source: Source) -> Source:
    """The rows as `query_id` and `messages`, for SFT: each ends in the assistant's turn.

    Reads `messages`; `prompt` with `completion` or `response`; and comparisons, where the chosen side is
    learned. Raises InputError for anything else.
    """
    if "messages" in source.columns:
        return _shaped(source, _dialogue)
    replies = [name for name in ("completion", "response", "chosen") if name in source.columns]
    if not replies:
        raise InputError(
            f"{source.parent.ref}: no dialogues in {', '.join(sorted(source.columns))}: SFT reads messages, "
            "or prompt with completion, response or chosen"
        )
    reply = replies[0]

    def shape(row: Row, place: str) -> Row:
        if reply == "chosen":
            comparison = _comparison(row, place)
            turns = comparison["prompt"] + comparison["chosen"]
        else:
            turns = _turns(row.get("prompt"), "user", place) + _turns(row[reply], "assistant", place)
        return _dialogue({"messages": turns}, place)

    return _shaped(source, shape)


def prompts(source: Source) -> Source:
    """The first user turns as `query_id` and `prompt` (one message), each once: what PPO and RLOO answer."""

    def first_turn(row: Row, place: str) -> Row:
        for column in ("messages", "prompt", "query"):
            if row.get(column):
                return {"prompt": _turns(row[column], "user", place)}
        if row.get("chosen") and row.get("rejected"):
            return {"prompt": _comparison(row, place)["prompt"]}
        raise InputError(f"{place}: no prompt: give messages, prompt or query")

    def distinct(frame: pl.DataFrame) -> pl.DataFrame:
        first_rows = frame.unique("query_id", keep="first", maintain_order=True)
        return first_rows.with_columns(pl.col("prompt").list.head(1))

    shaped = _shaped(source, first_turn)
    train = distinct(shaped.train)
    return replace(shaped, train=train, test=distinct(shaped.test), repeated=len(shaped.train) - len(train))


def _shaped(source: Source, shape: Shape, copied: tuple[str, ...] = ()) -> Source:
    """The source with both splits in their new shape, and `copied` columns as they are.

    Without a test split, a hash of the prompt's text holds rows out.
    """
    train, errors, several_turns = _shaped_split(source, source.train, source.splits[0], shape, copied)
    test, _, _ = _shaped_split(source, source.test, source.splits[1], shape, copied)
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
        unusable=(len(errors), errors[0] if errors else ""),
        several_turns=several_turns,
        leaked=int(is_leaked.sum()),
    )


def _shaped_split(
    source: Source, frame: pl.DataFrame, name: str, shape: Shape, copied: tuple[str, ...]
) -> tuple[pl.DataFrame, list[str], int]:
    """The split's rows in their new shape, the errors of unreadable rows, and the rows of several turns.

    Raises InputError where all rows are unreadable.
    """
    rows: list[Row] = []
    errors: list[str] = []
    several_turns = 0
    for number, row in enumerate(frame.iter_rows(named=True)):
        try:
            shaped = shape(row, f"{source.parent.ref}: {name} row {number}")
        except InputError as error:
            errors.append(str(error))
            continue
        turns = shaped.get("prompt") or shaped["messages"]
        if source.single_turn and sum(turn["role"] == "user" for turn in turns) > 1:
            several_turns += 1
            continue
        # A foreign query_id may be anything, and the split follows its hash.
        own_id = source.manifest and row.get("query_id")
        # Of the first turn, so that dialogues with one beginning, and RM and SFT, are split alike.
        query_id = own_id or text_id(turns[0]["content"])
        rows.append({"query_id": query_id, **shaped, **{column: row.get(column) for column in copied}})
    if errors and not rows and not several_turns:
        raise InputError(errors[0])
    columns = dict.fromkeys(column for row in rows for column in row)
    schema = {column: _MESSAGES if column in _MESSAGE_COLUMNS else pl.String() for column in columns}
    return pl.DataFrame(rows, schema=schema), errors, several_turns


def _comparison(row: Row, place: str) -> Row:
    chosen, rejected = (_turns(row[side], "assistant", place) for side in ("chosen", "rejected"))
    if row.get("prompt"):
        prompt = _turns(row["prompt"], "user", place)
        if chosen[: len(prompt)] == prompt:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        equal = takewhile(lambda turns: turns[0] == turns[1], zip(chosen[:-1], rejected[:-1], strict=False))
        prompt = [turn for turn, _ in equal]
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        if not prompt:
            prompt, chosen, rejected = _common_prefix(chosen, rejected)
    sides = {"chosen": chosen, "rejected": rejected}
    for name, side in sides.items():
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise InputError(
                f"{place}: {name} is not one turn of the assistant after the prompt: its turns are "
                f"{', '.join(turn['role'] for turn in side) or 'none'}"
            )
    if not prompt or prompt[-1]["role"] != "user":
        raise InputError(f"{place}: its prompt does not end in a user's turn")
    if prompt[0]["role"] != "user":
        raise InputError(f"{place}: its prompt does not begin with a user's turn")
    return {"prompt": prompt, **sides}


def _common_prefix(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The prompt of two plain texts: their common beginning, up to a line or a word; and the two replies."""
    if len(chosen) != 1 or len(rejected) != 1:
        return [], chosen, rejected
    texts = [side[0]["content"] for side in (chosen, rejected)]
    equal = takewhile(lambda letters: letters[0] == letters[1], zip(*texts, strict=False))
    prefix = "".join(letter for letter, _ in equal)
    cut = prefix.rfind("\n") + 1 or prefix.rfind(" ") + 1
    if not prefix[:cut].strip():
        return [], chosen, rejected
    replies = [[{"role": "assistant", "content": text[cut:].strip()}] for text in texts]
    return [{"role": "user", "content": prefix[:cut].strip()}], replies[0], replies[1]


def _dialogue(row: Row, place: str) -> Row:
    turns = _turns(row["messages"], "user", place)
    if turns[-1]["role"] != "assistant":
        raise InputError(f"{place}: its messages do not end in the assistant's turn")
    return {"messages": turns}


def _turns(value: Any, role: str, place: str) -> Messages:
    """Messages in which a system turn and repeated turns of one role are joined to their neighbour.

    A text is one turn of `role`, or a dialogue in HH-RLHF's layout.
    """
    turns: Messages = []
    for speaker, text in _raw_turns(value, role, place):
        turn_role = "user" if speaker == "system" else speaker
        if turn_role not in _ROLES.values():
            raise InputError(f"{place}: a turn of {speaker!r}; roles are system, user and assistant")
        if turns and turns[-1]["role"] == turn_role:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{text.strip()}".strip()
        else:
            turns.append({"role": turn_role, "content": text.strip()})
    if not turns or (role == "user" and turns[0]["role"] != "user"):
        raise InputError(f"{place}: it does not begin with a user's turn")
    return turns


def _raw_turns(value: Any, role: str, place: str) -> list[tuple[str, str]]:
    """Role and text of each turn."""
    if not isinstance(value, str):
        try:
            return [(turn["role"], turn["content"].strip()) for turn in value]
        except (KeyError, AttributeError, TypeError):
            raise InputError(
                f"{place}: {str(value)[:60]!r} is neither text nor a list of messages with role and content"
            ) from None
    pieces = _HH_TURN.split(value)
    if len(pieces) == 1 or pieces[0].strip():
        return [(role, value)]
    turns = [(_ROLES[name], text) for name, text in zip(pieces[1::2], pieces[2::2], strict=True)]
    if role == "user" and turns[-1][0] == "assistant" and not turns[-1][1].strip():
        turns.pop()  # a prompt up to `Assistant:`, as many copies of HH-RLHF have it
    return turns
