"""Responses of files: which columns hold prompt and replies, and how a row is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, did_you_mean
from ..generation import FINISH_REASONS
from ..models.chat import Messages, user_turn
from .conversations import IMAGES, Conversation, check_images, stripped
from .elsewhere import check_elsewhere
from .formats import Row
from .layout import BEFORE, check_repeats, has_value, most, objects, reply_of, turns, written_list
from .parts import part_columns
from .queries import CONVERSATIONS, NAMED, PromptColumn, find_column
from .reasons import Unusable

LONG = ("responder", "response", *CONVERSATIONS)
"""Columns of long rows; of a whole conversation beside `responder` the last turn is the response."""
FINISHED = ("stop_reason", "finish_reason")
"""How a column is named that says how replies ended: of wide rows it has the responder's name too."""
ONE_RESPONSE = "where a row has one response, say import.columns responder=NAME,response=NAME"
_ANY_PROMPT = user_turn("?")
"""Stands for a prompt that cannot be used, so that the reply to it can be kept with the reason."""


@dataclass(frozen=True)
class Response:
    """What a cell came to."""

    responder: str
    prompt: Messages
    text: str | None
    reason: str | None
    """Why it cannot be used."""
    detail: str
    """More of that, if anything."""
    finish_reason: str | None
    """`stop` or `length`; None where the row does not say it."""


@dataclass(frozen=True)
class ResponseColumns:
    """The columns of prompt and replies."""

    ladder: Mapping[str, str]
    """A responder's name in the file -> its name in the dataset."""
    prompt: PromptColumn | None
    """None where the replies are whole conversations."""
    reply: str | None
    """Of long rows, which name their responder; None where each responder has a column."""
    responder: str
    """Of long rows."""
    finished: Mapping[str, str]
    """Column of replies -> that of how they ended, where there is one."""
    unread: Sequence[str]
    """Columns of how replies ended that do not say which."""

    @property
    def columns(self) -> Sequence[str]:
        """All columns of which a value counts."""
        replies = [self.reply, self.responder] if self.reply else [*self.ladder]
        prompt = self.prompt.columns if self.prompt else (*BEFORE, *IMAGES)
        return [*prompt, *replies, *self.finished.values(), *self.unread]

    @property
    def described(self) -> str:
        """The columns, for the ledger."""
        replies = self.reply or ", ".join(self.ladder)
        head = f"prompt ({self.prompt.described}), response" if self.prompt else "prompt and response"
        parts = [f"{head} ({replies})", *([f"responder ({self.responder})"] if self.reply else [])]
        parts += [f"finish_reason ({', '.join(self.finished.values())})"] if self.finished else []
        fix = f"name it {next(iter(self.ladder))}_{FINISHED[-1]}"
        unread = f"; {self.unread[0]} is not read: {fix}" if self.unread else ""
        return ", ".join(parts) + unread

    def read(self, row: Row) -> Iterator[Response]:
        """The responses of a row. Raises InputError for a row without one of the columns."""
        prompt, problem_of_prompt = self._prompt(row)
        reason = problem_of_prompt.reason if problem_of_prompt else None
        before = stripped(prompt or ())
        for column in [self.reply] if self.reply else self.ladder:
            responder = _text(row, self.responder) if self.reply else column
            is_unusable = reason is not None and self.prompt is not None
            conversation, problem = _conversation(row, column, _ANY_PROMPT if is_unusable else prompt)
            detail = str(problem_of_prompt or problem or "")
            head = before
            if conversation and not reason and conversation.prompt is not prompt:
                head = stripped(conversation.prompt)
            text = conversation.reply.strip() if conversation else None
            word = row[1].get(self.finished.get(column, ""))
            ended = FINISH_REASONS.get(str(word or "").lower())
            name = self.ladder.get(responder)
            if name is None and responder in self.ladder.values():
                fix = "give the other one another name"
                raise InputError(
                    f"{row[0]}: import.ladder gives the name {responder!r}, which is another's: {fix}"
                )
            why = reason or _reason(problem) if name else "not_in_ladder"
            yield Response(name or responder, head, text, why, detail if name else "", ended)

    def _prompt(self, row: Row) -> tuple[Messages | None, Unusable | None]:
        """The prompt's turns, and why they cannot be used, or None."""
        try:
            if self.prompt is not None:
                return self.prompt.read(*row), None
            check_images(row[1])
        except Unusable as error:
            return None, error
        return None, None


def find_columns(
    names: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    source: str,
    ladder: Mapping[str, str],
    assignments: Mapping[str, str],
) -> ResponseColumns:
    """Which of the columns `names` hold prompts and replies; `assignments` are the user's.

    `ladder`: a responder's name in the file -> its name in the dataset.

    Raises InputError where none has the prompt, or a responder of the ladder has no column.
    """
    responder = assignments.get("responder", "responder")
    if absent := {responder, *assignments.values()} - {"responder", *names}:
        raise InputError(f"{source}: no column {min(absent)!r}; it has: {', '.join(sorted(names))}")
    usual = next((name for name in LONG[1:] if name in names), None)
    reply = assignments.get("response", usual) if responder in names else None
    if reply is None and (unused := assignments.keys() & {"responder", "response", "finish_reason"}):
        role = min(unused)
        fix = "name both, responder=NAME,response=NAME"
        raise InputError(f"{source}: import.columns {role}={assignments[role]} alone is not enough: {fix}")
    for name in [] if reply else ladder:
        if name not in names:
            check_elsewhere(names, source)
            hint, columns = did_you_mean(name, names), ", ".join(sorted(names))
            problem = f"no column {name!r}, a responder of import.ladder{hint}; it has: {columns}"
            raise InputError(f"{source}: {problem}: {ONE_RESPONSE}")
    replies = [reply] if reply else list(ladder)
    others = [name for name in names if name not in (*replies, *LONG[:2], responder)]
    values = [row[name] for row in sample for name in replies if row.get(name) is not None]
    if "response" not in assignments and most(values, written_list):
        fix = "write one reply a row, or read them as text: import.columns responder=NAME,response=NAME"
        raise InputError(
            f"{source}: lists of texts, or turns or texts as JSON, in {' and '.join(replies)}: {fix}"
        )
    is_whole = all(turns(value) and not isinstance(value, dict) for value in values)
    prompt = assignments.get("prompt")
    prompt_column: PromptColumn | None = None
    if prompt or "system" in assignments or not is_whole or not values or set(NAMED) & set(others):
        prompt_column = find_column(
            others, sample, source, prompt, "prompt", names, assignments.get("system")
        )
        if prompt is None:
            name = prompt_column.name
            check_repeats(sample, name, replies, source, f"import.columns prompt={name}")
    filled = [name for name in part_columns(tuple(others)) if any(has_value(row.get(name)) for row in sample)]
    if prompt_column is None and filled:
        fix = "write it into the turns, or delete the column"
        raise InputError(f"{source}: {filled[0]} may belong to the prompts of {' and '.join(replies)}: {fix}")
    ends = finish_columns(reply, ladder)
    if reply and (column := assignments.get("finish_reason")):
        ends = {column: reply}
    finished = {replies: name for name, replies in ends.items() if name in names}
    unread = [name for name in FINISHED if name in names and not reply]
    return ResponseColumns(ladder, prompt_column, reply, responder, finished, unread)


def finish_columns(reply: str | None, ladder: Iterable[str]) -> dict[str, str]:
    """Column of how replies ended, as it can be named -> the column of the replies."""
    if reply:
        return dict.fromkeys(FINISHED, reply)
    words = [(name, word) for name in ladder for word in FINISHED]
    return {column: name for name, word in words for column in (f"{word}_{name}", f"{name}_{word}")}


def _conversation(
    row: Row, column: str, prompt: Messages | None
) -> tuple[Conversation | None, Unusable | None]:
    """A reply with the prompt before it, and why it cannot be used, or None."""
    place, values = row
    if column not in values:
        fix = "write null where there is no reply"
        raise InputError(f"{place}: no column {column!r}; columns here: {', '.join(sorted(values))}: {fix}")
    try:
        conversation = reply_of(values, column, prompt)
    except Unusable as error:
        if error.reason == "not_text" and not objects(values[column]):
            kind = type(values[column]).__name__
            error = Unusable("not_text", f"{column} must be text, not {kind}: write a string")
        return None, error
    return conversation, None


def _reason(error: Unusable | None) -> str | None:
    if error is None:
        return None
    return "missing" if error.reason == "no_reply" else error.reason


def _text(row: Row, column: str) -> str:
    place, values = row
    value = values.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"{place}: {column} must be text, not {type(value).__name__}: write a string")
    return value
