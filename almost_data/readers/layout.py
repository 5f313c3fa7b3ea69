"""What a layout is: a declared object that says which columns hold preferences, and how a row is read."""

import re
from collections.abc import Callable, Collection, Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, lru_cache
from math import isfinite
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import InputError
from ..models.chat import Messages
from .conversations import (
    NULLS,
    TURN_KEYS,
    Conversation,
    check_images,
    first_value,
    is_nan,
    is_null,
    read_prompt,
    read_reply,
    read_turns,
)
from .dialogue_text import is_hh
from .json_turns import decode_list, is_quoted_text, is_written_turn
from .parts import PARTS, part_columns
from .reasons import TIE, Unusable

Cells = Mapping[str, Any]
"""A row's values by column."""
SIDES = ("chosen", "rejected")
PROMPT_COLUMNS = (
    *("prompt", "question", "instruction", "query", "input"),
    *("messages", "conversations", "trajectory", *PARTS),
)
"""Columns that can hold a prompt: a layout without one is only for files that have none of these."""
ADDITION = "input"
"""Alpaca's column of what follows its `instruction`."""
NO_ADDITION = "<noinput>"
"""What Self-Instruct and Alpaca have in that column where nothing follows."""
CONVERSATION = "conversation"
"""A column that repeats the turns of whole conversations, or holds those before replies that are text."""
SYSTEM_COLUMNS = ("system", "system_prompt")
BEFORE = (*SYSTEM_COLUMNS, "history")
"""Columns of what stands before the prompt: a system text, and earlier turns."""


class Side(msgspec.Struct, frozen=True):
    """A response, with what is known of it."""

    text: str
    model: str | None = None
    score: float | None = None


class Preference(msgspec.Struct, frozen=True):
    """A prompt that ends in a user's turn, and two replies of which one is better."""

    prompt: Messages
    chosen: Side
    rejected: Side


ReadCells = Callable[[Cells], list[Preference]]
"""How a row is read. Raises Unusable."""

# --- what the values of a column are --------------------------------------------------------------------

Test = Callable[[Any], bool]


def anything(value: Any) -> bool:
    return True


def text(value: Any) -> bool:
    return isinstance(value, str)


def plain_text(value: Any) -> bool:
    """Text that is no list of texts in JSON."""
    return text(value) and text_list(value) is None


def items(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def texts(value: Any) -> bool:
    return items(value) and all(map(text, value))


def mapping(value: Any) -> bool:
    return isinstance(value, dict)


def objects(value: Any) -> bool:
    return items(value) and all(isinstance(item, dict) for item in value)


def turns(value: Any) -> bool:
    """A list of turns or one turn, also as JSON text."""
    try:
        return read_turns(value) is not None if text(value) else _turn(value) or objects(value)
    except Unusable:
        return True


_PYTHON_LIST = re.compile(r"\s*(?:array\()?\[\s*\{?'|\s*array\(\[")
"""How a list begins that Python wrote as text, where a table of text was saved."""


def python_list(value: Any) -> bool:
    return isinstance(value, str) and _PYTHON_LIST.match(value) is not None


def written_list(value: Any) -> bool:
    """A list of texts that was written as text, by Python or as JSON, or a turn or a text as JSON."""
    is_json = (text_lists, is_written_turn, is_quoted_text)
    return python_list(value) or (isinstance(value, str) and any(test(value) for test in is_json))


def side(value: Any) -> bool:
    """Text that is no dialogue of HH-RLHF, one turn, or a list of turns."""
    return (text(value) and not is_hh(value)) or _turn(value) or objects(value)


def conversation(value: Any) -> bool:
    """A list of turns that ends in the assistant's, after a user's."""
    try:
        turns = read_turns(value)
    except Unusable:
        return True
    return turns is not None and [turn["role"] for turn in turns[-2:]] == ["user", "assistant"]


def tree(value: Any) -> bool:
    """A turn with the turns that answer it."""
    return _turn(value) and objects(value.get("replies") or ())


def _turn(value: Any) -> bool:
    return isinstance(value, dict) and not TURN_KEYS.isdisjoint(value)


def text_lists(value: Any) -> bool:
    """A list of texts and nulls, also as JSON text."""
    return text_list(value) is not None


def flag(value: Any) -> bool:
    """True or false, in any of their spellings."""
    return flag_of(value) is not None


def most(values: Collection[Any], test: Callable[[Any], Any]) -> bool:
    """Whether more than half of the values pass."""
    return 2 * sum(1 for value in values if test(value)) > len(values)


def has_value(value: Any) -> bool:
    """Whether a cell holds anything: CSV has an empty text for null, and `[]` for a list; pandas has NaN."""
    return value is not None and value not in ("", [], "[]") and not is_nan(value)


# --- the layout -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which files hold preferences."""

    name: str
    title: str
    source: str
    """Who publishes data in it."""
    columns: Mapping[str, Test]
    """Columns that have values in it, and what these must be."""
    optional: Sequence[str] = ()
    """Columns that are read where they exist, or repeat what is read."""
    absent: Sequence[str] = ()
    """Columns that have no value in this layout, besides all others that can hold a prompt."""
    is_named: bool = False
    """Whether the user names its columns: then a row is read whatever other columns, or images, it has."""
    chosen: str = "chosen"
    """The column of the better reply, in layouts that have one."""
    read: ReadCells
    example: Cells
    """A row of which "No, a leaf." is preferred to "Yes."."""
    labels: Mapping[str, Callable[[set[float]], bool]] = field(default_factory=dict)
    """Column of numbers that say which side is better -> whether all numbers of a file are such labels."""
    rule: str = ""
    """Which replies are compared, where a prompt has several."""
    groups_by: str | None = None
    """Column of the prompt, where the responses of a prompt are rows that follow each other: `read` then gets
    `{"rows": [...]}`."""

    def fits(self, rows: Sequence[Cells]) -> bool:
        """Whether the columns are this layout's, and at least half of their values that are not null pass.

        A column without a value is none of those that must be absent.
        """
        names = {name for row in rows for name, value in row.items() if has_value(value)}
        if not self.columns.keys() <= names or any(map(self._extra_column, rows)):
            return False
        return self.misfit(rows) is None

    @cached_property
    def foreign(self) -> KeysView[str]:
        """The columns that have no value in this layout."""
        if self.is_named:
            return {}.keys()
        columns = (*PROMPT_COLUMNS, *self.absent)
        return {name: None for name in columns if name not in self._columns_read}.keys()

    @cached_property
    def _columns_read(self) -> frozenset[str]:
        addition = [ADDITION] if "instruction" in self.columns else []
        return frozenset((*self.columns, *self.optional, *addition))

    def _extra_column(self, row: Cells) -> str | None:
        """The first foreign column that has a value."""
        parts = () if self.is_named else part_columns(tuple(row))
        if not parts and row.keys().isdisjoint(self.foreign):
            return None
        names = (*self.foreign, *(name for name in parts if name not in self._columns_read))
        return next((name for name in names if has_value(row.get(name))), None)

    def misfit(self, rows: Sequence[Cells]) -> str | None:
        """The first column of which more than half of the values are not what it must hold."""
        for name, test in self.columns.items():
            values = [row[name] for row in rows if row.get(name) not in (None, "")]
            if 2 * sum(map(test, values)) < len(values):
                return name
        return None

    def check(self, row: Cells) -> None:
        """Raise Unusable where a value is not what its column holds, or is in a column of another layout."""
        if not self.is_named:
            check_images(row)
        if column := self._extra_column(row):
            raise Unusable("ambiguous", f"column {column}: may hold the prompt or a reply")
        for name, test in self.columns.items():
            if (value := row.get(name)) not in (None, "") and not test(value):
                raise Unusable("not_text", f"column {name}: not what {self.title} has there")

    @property
    def described(self) -> str:
        return f"{self.title} ({', '.join(self.columns)}){self.rule and f': {self.rule}'}"


def preference(
    sides: Sequence[Conversation],
    models: Sequence[str | None] = (None, None),
    scores: Sequence[float | None] = (None, None),
) -> Preference:
    """Two conversations with one prompt, the better one first, as a preference. Raises Unusable."""
    chosen, rejected = sides
    if chosen.prompt != rejected.prompt:
        raise Unusable("prompts_differ")
    if chosen.reply.strip() == rejected.reply.strip():
        raise Unusable("equal_sides")
    better = Side(chosen.reply, models[0], scores[0])
    worse = Side(rejected.reply, models[1], scores[1])
    return Preference(chosen.prompt, better, worse)


SCORES = ("score_{}", "{}_score", "{}_rating", "{}-rating", "rating_{}", "{}_avg_rating")
MODELS = ("{}_model", "{}-model", "{}_responder", "{}_policy")
"""How files name the columns of each side's score and model."""


def pair(prompt: str | None) -> ReadCells:
    """Reads `chosen` and `rejected` after the prompt in a column, or at the head of whole conversations."""

    def read(row: Cells) -> list[Preference]:
        if row.get("status") == TIE:  # distilabel's judge rated both sides the same
            raise Unusable(TIE)
        turns = prompt_of(row, prompt_cell(row, prompt)) if prompt else None
        sides = [reply_of(row, side, turns) for side in SIDES]
        if has_value(row.get(CONVERSATION)) and any(side.prompt is turns for side in sides):
            raise Unusable("ambiguous", f"column {CONVERSATION}: may hold earlier turns")
        return with_facts(row, sides)

    return read


def with_facts(row: Cells, sides: Sequence[Conversation]) -> list[Preference]:
    """The preference of the chosen and the rejected side, with the models and scores that the row has."""
    if (facts := _fact_columns(tuple(row))) is None:
        return [preference(sides)]
    models = [name_of(first_value(row, *names)) for names in facts[0]]
    scores = [number_of(first_value(row, *names)) for names in facts[1]]
    return [preference(sides, models, scores)]


def prompt_cell(row: Cells, column: str) -> Any:
    """The value of a prompt's column; the text of `input` follows that of `instruction` after a blank line.

    Raises Unusable.
    """
    value, addition = row.get(column), row.get(ADDITION)
    if column != "instruction" or not isinstance(value, str) or not value.strip() or not has_value(addition):
        return value
    if addition in (NO_ADDITION, *NULLS):
        return value
    if not isinstance(addition, str):
        raise Unusable("not_text", f"column {ADDITION}: not the text that follows the instruction")
    return f"{value}\n\n{addition}"


def prompt_of(row: Cells, value: Any) -> Messages:
    """A prompt with what the row has before it: a system text, and the earlier turns of `history`."""
    system_texts = [row[name] for name in SYSTEM_COLUMNS if row.get(name) and not is_null(row[name])]
    if len(system_texts) == 2 and system_texts[0] != system_texts[1]:
        raise Unusable("ambiguous", f"columns {' and '.join(SYSTEM_COLUMNS)}: each has a text of its own")
    return read_prompt(value, next(iter(system_texts), None), row.get("history"))


def reply_of(row: Cells, column: str, prompt: Messages | None) -> Conversation:
    """The reply in a column, after a prompt, or after the prompt in a whole conversation."""
    conversation = read_reply(row.get(column), prompt)
    return conversation if prompt else replace(conversation, prompt=prompt_of(row, conversation.prompt))


@lru_cache
def _fact_columns(names: tuple[str, ...]) -> Sequence[Sequence[Sequence[str]]] | None:
    """Of these columns those of each side's model, and those of each side's score; None where none is."""
    facts = [
        [[name for pattern in patterns if (name := pattern.format(side)) in names] for side in SIDES]
        for patterns in (MODELS, SCORES)
    ]
    return facts if any(any(columns) for columns in facts) else None


DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d{1,2}\s*")
"""A number with a comma that cannot part thousands."""


def number_of(value: Any) -> float | None:
    """A finite number, also as text, and with a decimal comma; None for anything else.

    >>> number_of("4,5"), number_of("1,250")
    (4.5, None)
    """
    if not isinstance(value, int | float | str | Decimal) or isinstance(value, bool):
        return None
    if isinstance(value, str) and DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (ValueError, OverflowError):  # an integer of any length is JSON
        return None
    return number if isfinite(number) else None


def flag_of(value: Any) -> bool | None:
    """True or false, also as 1 and 0 or as text; None for anything else."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), number_of(value))
    return bool(value) if value in (0, 1) else None


def text_list(value: Any) -> list[Any] | None:
    """A list of texts and nulls, also as JSON text; None for anything else."""
    values = decode_list(value) if isinstance(value, str) else value
    is_list = isinstance(values, list) and all(text is None or isinstance(text, str) for text in values)
    return values if is_list else None


def check_repeats(
    rows: Sequence[Cells], prompt: str, replies: Iterable[str], source: str, setting: str
) -> None:
    """Raise InputError for a column of replies of which most begin with the text of the prompt's column.

    `setting` says how to read them as they are.
    """
    for column in replies:
        cells = [(row.get(prompt), row.get(column)) for row in rows if has_value(row.get(column))]
        if 2 * sum(_repeats(start, reply) for start, reply in cells) > len(cells):
            fix = f"leave it out of the replies, or read them as they are by {setting}"
            raise InputError(f"{source}: {column} begins with the text of {prompt}: {fix}")


LABEL, SENTENCE = 30, 20
"""Characters that may stand before a repeated prompt, such as `User:`, and those that tell it from a word."""


def _repeats(prompt: Any, reply: Any) -> bool:
    """Whether a reply begins with the text of the prompt, or has it behind a label."""
    if not isinstance(prompt, str) or not isinstance(reply, str) or not (prompt := prompt.strip()):
        return False
    start = reply.lstrip()
    end = len(prompt) + LABEL if len(prompt) >= SENTENCE else len(prompt)
    return prompt in start[:end] and not turns(reply)


def name_of(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
