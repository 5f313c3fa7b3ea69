"""Dialogues that end in a reply, and prompts: which columns of a source hold them, and how a row is read.

A text is a reply only where its column says so by its name, or the user does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from .conversations import Conversation, read_reply
from .dialogue_text import has_hh_turn, is_hh, is_whole_hh, read_hh
from .files import listed
from .layout import BEFORE, check_repeats, conversation, has_value, most, reply_of, turns, written_list
from .queries import CONVERSATIONS, PromptColumn, find_column
from .reasons import Unusable

Cells = Mapping[str, Any]
ROLES = ("prompt", "system", "response")
"""What a column can hold where the user names it; of whole dialogues `response` alone."""
REPLIES = ("completion", "response", "output")
"""Columns that say by their name that they hold the reply to the prompt beside them."""
_DIALOGUES = (*CONVERSATIONS, "text")
"""Columns that may hold whole dialogues."""


@dataclass(frozen=True)
class DialogueColumns:
    """The columns of a prompt and the reply to it."""

    prompt: PromptColumn
    reply: str | None
    """Column of replies, or of whole dialogues that begin with the prompt; None where `prompt` has these."""
    foreign: Sequence[str] = ()
    """Columns that could hold the reply too, and have no value in the sample."""

    @property
    def columns(self) -> Sequence[str]:
        """All columns of which a value counts."""
        return [*self.prompt.columns, *filter(None, [self.reply]), *self.foreign]

    @property
    def described(self) -> str:
        """The columns, for a line on how the source is read."""
        reply = f", reply ({self.reply})" if self.reply else ""
        return f"{'prompt' if reply else 'dialogues'} ({self.prompt.described}){reply}"

    def read(self, place: str, row: Cells) -> Conversation:
        """A row's prompt and reply. Raises Unusable, and InputError for a column that is missing."""
        if column := next((name for name in self.foreign if has_value(row.get(name))), None):
            raise Unusable("ambiguous", f"column {column}: may hold the reply")
        if self.reply is None:
            row, name = self.prompt.checked(place, row), self.prompt.name
            value = read_hh(row[name]) if is_hh(row[name]) else row[name]
            if not any(row.get(column) for column in BEFORE):
                return read_reply(value, None)  # as below, without reading the prompt's turns again
            return reply_of({**row, name: value}, name, None)
        if self.reply not in row:
            raise InputError(f"{place}: no column {self.reply!r}; columns here: {listed(sorted(row))}")
        result = reply_of(row, self.reply, self.prompt.read(place, row))
        if isinstance(row[self.reply], str) and has_hh_turn(result.reply):
            raise Unusable("not_one_reply", "turns of `Human:` or `Assistant:` follow the reply")
        return result


def find_dialogues(
    columns: Sequence[str], sample: Sequence[Cells], source: str, assignments: Mapping[str, str]
) -> DialogueColumns:
    """The columns of dialogues: those that the user names, or the ones that can hold them.

    They are a prompt with one of `REPLIES`, or a column of whole dialogues. Raises InputError.
    """
    prompt, system, reply = (assignments.get(role) for role in ROLES)
    foreign: list[str] = []
    if reply is None:
        replies = [name for name in REPLIES if name in columns and name not in (prompt, system)]
        filled = [name for name in replies if any(has_value(row.get(name)) for row in sample)]
        if len(filled) > 1:
            problem = f"both {' and '.join(filled)} may hold the reply"
            raise InputError(f"{source}: {problem}: say which one does: import.columns response=NAME")
        reply = next(iter([*filled, *replies]), None)
        foreign = [name for name in replies if name != reply]
    elif reply not in columns:
        raise InputError(f"{source}: no column {reply!r}; it has: {listed(sorted(columns))}")
    elif prompt is None and _most(sample, reply, conversation):
        return DialogueColumns(find_column(columns, sample, source, reply, "response", system=system), None)
    if reply is None:
        return _whole_dialogues(columns, sample, source, prompt, system)
    others = [name for name in columns if name not in (reply, *foreign)]
    column = find_column(others, sample, source, prompt, "prompt", columns, system)
    setting = f"import.columns prompt={column.name},response={reply}"
    if column.whole:
        raise InputError(f"{source}: both {reply} and {column.whole} may hold the reply: {setting} decides")
    if "response" not in assignments and _most(sample, reply, written_list):
        fix = f"write one reply a row, or read it as text: {setting}"
        raise InputError(f"{source}: {reply} holds lists of texts, or turns or texts as JSON: {fix}")
    if "prompt" not in assignments:
        check_repeats(sample, column.name, [reply], source, setting)
    return DialogueColumns(column, reply, foreign)


def _whole_dialogues(
    columns: Sequence[str], sample: Sequence[Cells], source: str, prompt: str | None, system: str | None
) -> DialogueColumns:
    names = [name for name in columns if name in (*_DIALOGUES, prompt)]
    dialogues = [name for name in names if not _most(sample, name, _is_text)]
    if dialogues:
        column = find_column(columns, sample, source, prompt, "prompt", system=system)
        if column.whole or column.name in dialogues:
            return DialogueColumns(column, column.whole)
    replies = f"{', '.join(REPLIES)} or chosen"
    raise InputError(
        f"{source}: no dialogues in {listed(sorted(columns))}: SFT reads messages, or prompt with {replies}: "
        "name the columns, as import.columns prompt=NAME,response=NAME"
    )


def _is_text(value: Any) -> bool:
    return not turns(value) and not is_hh(value)


def find_prompts(
    columns: Sequence[str], sample: Sequence[Cells], source: str, assignments: Mapping[str, str]
) -> PromptColumn:
    """The column of prompts, which may hold whole dialogues: that which the user names, or the one that can.

    Raises InputError.
    """
    prompt, system = assignments.get("prompt"), assignments.get("system")
    column = find_column(columns, sample, source, prompt, "prompt", system=system)
    whole = _most(sample, column.name, lambda value: is_whole_hh(value) or conversation(value))
    return replace(column, has_replies=whole)


def _most(sample: Sequence[Cells], name: str, test: Callable[[Any], bool]) -> bool:
    """Whether more than half of a column's values pass."""
    return most([row[name] for row in sample if has_value(row.get(name))], test)
