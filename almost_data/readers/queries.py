"""Which column of a file holds the queries, and how its values are read as prompts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from ..models.chat import Messages
from .conversations import IMAGES, at_head, check_images, read_turns
from .dialogue_text import is_hh, read_hh, read_steer
from .elsewhere import TURN_COLUMNS, check_elsewhere, check_turns
from .files import listed
from .layout import (
    ADDITION,
    BEFORE,
    SYSTEM_COLUMNS,
    conversation,
    has_value,
    most,
    objects,
    prompt_cell,
    prompt_of,
    texts,
    turns,
    written_list,
)
from .parts import PARTS, part_columns
from .reasons import Unusable

NAMED = ("query", "prompt", "question", "instruction")
"""Columns that say by their name that they hold a prompt."""
CONVERSATIONS = ("messages", "conversations", "conversation")
"""Columns that may hold more turns than a column of the prompt beside them."""
UNNAMED = ("text", "input", "turns", *CONVERSATIONS)
"""Columns that hold one where no other column says so."""
_WORD = re.compile("[a-z]+")
"""A word in the name of a column, such as `answer` in `answer1_body`."""
ANSWERS = (
    *("output", "response", "completion", "answer", "answers", "chosen", "rejected", "reply", "target"),
    *("role", "author", "speaker", "sender", "from", "parent_id", "label", "labels", "sentiment", "summary"),
    *PARTS,
)
"""Columns beside which an unnamed column may hold more than the prompt, text that belongs to a prompt, or
what is no prompt."""
COLUMNS = frozenset((*NAMED, *UNNAMED, *ANSWERS, *BEFORE)) | TURN_COLUMNS


@dataclass(frozen=True)
class PromptColumn:
    """The column of the prompt, and those that are read with it."""

    name: str
    addition: str | None = None
    """A column whose text follows the prompt after a blank line (Alpaca's `input`)."""
    before: Sequence[str] = ()
    """The columns of `BEFORE` that the source has."""
    foreign: Sequence[str] = ()
    """Columns that could hold a prompt too, and have no value in the sample."""
    whole: str | None = None
    """A column of the whole conversations, each of which begins with the prompt."""
    has_replies: bool = False
    """Whether the column holds whole conversations: the prompt is what stands before the last reply."""
    system: str | None = None
    """The column of the system prompt, where the user names it."""
    ignores_images: bool = False
    """Whether a row with an image is read, as the user says what its text is."""

    @property
    def columns(self) -> Sequence[str]:
        """All columns of which a value counts."""
        images = () if self.ignores_images else IMAGES
        filled = [self.name, *filter(None, (self.addition, self.whole, self.system))]
        return [*filled, *self.before, *self.foreign, *images]

    @property
    def described(self) -> str:
        """The columns, for the ledger.

        >>> PromptColumn("instruction", "input", ["system"]).described
        'instruction, input, system'
        """
        parts = {"turns": ": of several texts the first"}
        part = ": the turns before the last reply" if self.has_replies else parts.get(self.name, "")
        part += f", with the system turn of {self.whole}" if self.whole else ""
        return ", ".join(filter(None, [self.name, self.addition, *self.before, self.system])) + part

    def cell(self, row: Mapping[str, Any]) -> Any:
        """The value of the column; of MT-bench's `turns` the first, as the later ones follow on a reply.

        Arena-Hard's are objects with a `content`.
        """
        value = row.get(self.name)
        if self.name != "turns" or not isinstance(value, list) or not value:
            return value
        texts = [
            turn["content"] if isinstance(turn, dict) and [*turn] == ["content"] else turn for turn in value
        ]
        return texts[0] if all(isinstance(text, str) for text in texts) else value

    def checked(self, place: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row that has nothing beside the prompt, with its system prompt under the usual name.

        Raises Unusable, and InputError where it has no such column.
        """
        if self.name not in row:
            raise InputError(f"{place}: no column {self.name!r}; columns here: {', '.join(sorted(row))}")
        if not self.ignores_images:
            check_images(row)
        if column := next((name for name in self.foreign if has_value(row.get(name))), None):
            raise Unusable("ambiguous", f"column {column}: may hold the prompt")
        if self.system:
            return {**row, **dict.fromkeys(SYSTEM_COLUMNS), "system": row.get(self.system)}
        return row

    def read(self, place: str, row: Mapping[str, Any]) -> Messages:
        """A row's prompt. Raises Unusable, and InputError for a row without the column."""
        row = self.checked(place, row)
        value = prompt_cell(row, self.name) if self.addition else self.cell(row)
        if isinstance(value, str):
            value = value.strip()
        try:
            turns = read_hh(value) if is_hh(value) else read_steer(value)
            prompt = prompt_of(row, _before_reply(turns) if self.has_replies else turns)
            conversation = row.get(self.whole) if self.whole else None
            return at_head(prompt, conversation) if has_value(conversation) else prompt
        except Unusable as error:
            if error.reason == "not_text" and not objects(value):
                kind, fix = type(value).__name__, "write a string"
                if texts(value):
                    kind, fix = "a list of texts", 'write each as {"role": ..., "content": ...}'
                detail = f"{self.name} must be text or a list of turns, not {kind}: {fix}"
                raise Unusable("not_text", detail) from None
            raise

    def reads(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has a prompt that can be used."""
        try:
            return bool(self.read("", row))
        except (Unusable, InputError):
            return False


def _before_reply(value: Any) -> Any:
    turns = read_turns(value) if has_value(value) else None
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" else value


def find_queries(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    source: str,
    assigned: str | None,
    system: str | None = None,
) -> PromptColumn:
    """The column of queries; the sample says whether it holds whole conversations. Raises InputError."""
    column = find_column(columns, sample, source, assigned, system=system)
    values = list(filter(has_value, map(column.cell, sample)))
    return replace(column, has_replies=most(values, conversation))


def find_column(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    source: str,
    assigned: str | None = None,
    setting: str = "query",
    all_columns: Sequence[str] = (),
    system: str | None = None,
) -> PromptColumn:
    """The column of the prompt among these: `assigned`, or the one that can hold it. Raises InputError.

    `all_columns` are those of the source, where `columns` are not all of them. `system` is the column of the
    system prompt, where the user names it.
    """
    names = listed(sorted(all_columns or columns)) or "none"
    before = [name for name in BEFORE if name in columns and name not in (assigned, system)]
    if system is not None:
        if assigned is None:
            fix = f"import.columns {setting}=NAME,system={system}"
            raise InputError(f"{source}: name the {setting} too, where you name the system prompt: {fix}")
        if system not in columns:
            raise InputError(f"{source}: no column {system!r}; it has: {names}")
        before = [name for name in before if name not in SYSTEM_COLUMNS]
    if assigned is not None:
        if assigned in all_columns and assigned not in columns:
            raise InputError(f"{source}: column {assigned!r} holds replies: name that of the {setting}")
        if assigned not in columns:
            raise InputError(f"{source}: no column {assigned!r}; it has: {names}")
        addition = (
            ADDITION if assigned == "instruction" and ADDITION in columns and system != ADDITION else None
        )
        return PromptColumn(assigned, addition, before, system=system, ignores_images=True)
    candidates, parts = _candidates(columns, sample)
    fix = f"say which column holds the {setting}: import.columns {setting}=NAME"
    if not candidates:
        check_elsewhere(columns, source)
        raise InputError(f"{source}: no column {setting!r}; it has: {names}: {fix}")
    several = [*candidates, *parts]
    cells = {name: [row.get(name) for row in sample] for name in several}
    # of several columns those without a value do not count
    foreign = [name for name in several if not any(map(has_value, cells[name]))]
    filled = [name for name in several if name not in foreign]
    if not set(filled) & set(candidates):
        filled, foreign = several, []
    name, *others = filled
    check_turns(sample, name, source, f"read each as it is by import.columns {setting}={name}")
    addition = ADDITION if name == "instruction" and ADDITION in columns else None
    column = PromptColumn(name, addition, before, foreign)
    if len(others) == 1 and others[0] in CONVERSATIONS:
        column = replace(column, whole=others[0])
        rows = [row for row in sample if has_value(row.get(name)) and has_value(row.get(others[0]))]
        if most(rows, column.reads):
            return column
    if others:
        raise InputError(f"{source}: both {' and '.join(filled)} may hold the {setting}: {fix}")
    values = list(filter(has_value, cells[name]))
    if most(values, written_list):
        fix = f"write lists of turns, or read it as text: import.columns {setting}={name}"
        raise InputError(f"{source}: {name} holds lists of texts, or turns or texts as JSON: {fix}")
    return column


def _candidates(columns: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The columns that can hold a prompt, and those of what may belong to it.

    Lists of turns say whose each is, so an answer or a label may stand beside them.
    """
    words = {*columns, *_WORD.findall(" ".join(columns).lower())}
    candidates = [name for name in NAMED if name in columns]
    if not candidates and words.isdisjoint(ANSWERS):
        candidates = [name for name in UNNAMED if name in columns]
    if not candidates:
        cells = {name: [row[name] for row in sample if has_value(row.get(name))] for name in CONVERSATIONS}
        candidates = [name for name, values in cells.items() if most(values, turns)]
    addition = () if candidates == ["instruction"] else (ADDITION,)
    may_be_parts = (*CONVERSATIONS, *part_columns(tuple(columns)), *addition)
    return candidates, [name for name in may_be_parts if name in columns and name not in candidates]
