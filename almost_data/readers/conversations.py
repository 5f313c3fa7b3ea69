"""Messages and replies from the values that people's files hold.

Nothing is guessed: text is a turn only where its layout says so, and a value that is no conversation is
refused with a reason (`Unusable`), by which its row is kept among the rejected ones.
"""

import re
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import msgspec

from ..models.chat import Message, Messages, user_turn
from .dialogue_text import check_reply, check_text
from .json_turns import ROLES, TEXT_PARTS, decode_list, is_written_turn, json_turns
from .reasons import Unusable

TOOL_ROLES = {
    *("tool", "function", "function_call", "observation", "ipython", "environment"),
    *("tool_call", "tool_calls", "tool_response", "function_response"),
}
PAIRS = (("input", "output"), ("human", "assistant"))
"""Keys of a user's turn and the reply to it, where one object holds both, as in Capybara and MOSS."""
_PAIR_ROLES = ("user", "assistant")
TOOL_CALLS = frozenset(("tool_calls", "function_call", "function_calls", "tools", "functions"))
"""Keys of a turn, or of a request, that calls tools or declares them."""
IMAGE_IDS = {"image_id", "imageId", "img_id"}
IMAGES = {
    *("image", "images", "image_path", "img_path", "image_url"),
    *(*IMAGE_IDS, "image_file", "image_name", "img", "picture"),
    *("video", "videos", "video_path", "audio", "audios", "audio_path"),
}
"""Columns of what is no text, and belongs to the prompt."""
NULLS = ("nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A")
"""What tables of text have for a null: such a text alone is no prompt, no reply and no part of a prompt."""
_EMPTY: Sequence[Any] = ("", [], *NULLS)
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
"""Signs without a width: a text of them and of blanks is empty."""
_IMAGE = "<image>"
"""Stands for an image at the beginning or the end of a turn, as in LLaVA's data."""
_MEDIA_PATH = re.compile(
    r"[^\s\"<>]*/[^\s\"<>/]+\.(?:png|jpe?g|webp|gif|bmp|mp4|webm|wav|mp3)", re.IGNORECASE
)
"""A text that is the path or the address of an image, a video or sound."""
TURN_KEYS = frozenset(("role", "from", "messages"))
"""What an object that is a turn, or that holds turns, has."""


def is_null(value: Any) -> bool:
    """Whether a cell is null: also as an empty text or list, as NaN, or as what tables write for a null.

    >>> is_null(float("nan")), is_null("None"), is_null(0)
    (True, True, False)
    """
    return value is None or value in _EMPTY or is_nan(value)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and isnan(value)


def is_blank(text: str) -> bool:
    """Whether a text has nothing that is seen."""
    return not text.strip().strip(_INVISIBLE).strip()


class Conversation(msgspec.Struct, frozen=True):
    """Turns up to a user's turn, and the reply to it."""

    prompt: Messages
    reply: str


def read_turns(value: Any) -> Messages | None:
    """The turns of a message list in any spelling; None where the value is plain text. Raises Unusable.

    Takes `{role, content}`, ShareGPT's `{from, value}`, one such turn alone, content as text parts, and a
    list of turns as JSON text. Text that is one JSON object is text: a reply may be JSON.

    >>> read_turns('[{"from": "human", "value": "Why?"}]')
    ({'role': 'user', 'content': 'Why?'},)
    >>> read_turns("Why?") is None
    True
    """
    if isinstance(value, str) and (value := json_turns(value)) is None:
        return None
    if isinstance(value, dict) and "messages" in value:
        return _request_turns(value)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise Unusable("not_text", f"{type(value).__name__} where text or a list of turns is needed")
    try:
        turns = tuple(_message(turn) for turn in value)
        is_empty_system = turns and turns[0]["role"] == "system" and is_blank(turns[0]["content"])
        return turns[1:] if is_empty_system else turns
    except Unusable:
        if (turns_of_pairs := _turns_of_pairs(value)) is None:
            raise
        return turns_of_pairs


def _turns_of_pairs(value: Sequence[Any]) -> Messages | None:
    """The turns of objects that each hold a user's text and the reply, by keys of `PAIRS`; else None."""
    keys = next((keys for keys in PAIRS if isinstance(value[0], dict) and value[0].keys() == {*keys}), ())
    if not keys or any(not isinstance(item, dict) or item.keys() != {*keys} for item in value):
        return None
    texts = [(role, item[key]) for item in value for role, key in zip(_PAIR_ROLES, keys, strict=True)]
    if not all(isinstance(text, str) for _, text in texts):
        return None
    return tuple({"role": role, "content": text} for role, text in texts)


def _request_turns(request: dict[str, Any]) -> Messages:
    """The turns of a request as servers take it: `messages`, and Anthropic's `system`."""
    if _has_tools(request):
        raise Unusable("tool_turn", "tools beside the messages")
    turns = read_turns(request["messages"])
    if turns is None:
        raise Unusable("not_text", "text where a list of messages is needed")
    return (_system_turn(request["system"]), *turns) if request.get("system") else turns


def read_prompt(value: Any, system: Any = None, history: Any = None) -> Messages:
    """A prompt of text or turns, ending in a user's turn, after an optional system text and earlier turns.

    `history` is a list of pairs of a user's text and the reply, or of turns, also as JSON text. Raises
    Unusable.
    """
    if value == "[]" or is_null(value):
        raise Unusable("no_prompt")
    turns = read_turns(value)
    if turns is None:
        turns = user_turn(check_text(value))
    if isinstance(history, str) and (earlier_turns := decode_list(history)) is not None:
        history = earlier_turns
    if history:
        head, earlier = (1 if turns[:1] and turns[0]["role"] == "system" else 0), _history(history)
        if stripped(turns[head:][: len(earlier)]) != stripped(earlier):  # else the prompt has them itself
            turns = (*turns[:head], *earlier, *turns[head:])
    if system and not is_null(system) and (system_turn := _system_turn(system)) not in turns:
        if turns[:1] and turns[0]["role"] == "system":
            raise Unusable("prompts_differ", "the column of the system text and the system turn differ")
        turns = (system_turn, *turns)
    return check_prompt(turns)


def _system_turn(system: Any) -> Message:
    if isinstance(system, str) and is_written_turn(system):
        raise Unusable("unreadable_system")
    try:
        return {"role": "system", "content": _text(system)}
    except Unusable:
        raise Unusable("unreadable_system") from None


def check_images(row: Mapping[str, Any]) -> None:
    """Raise Unusable for a row, a turn or a part with an image, which its text may need."""
    if IMAGES.isdisjoint(row):
        return
    if any(row.get(name) or (name in IMAGE_IDS and row.get(name) == 0) for name in IMAGES):
        raise Unusable("image")


def _history(history: Any) -> Messages:
    """Earlier turns, of pairs of texts or of turns."""
    items = list(history) if isinstance(history, list | tuple) else [history]
    if all(isinstance(item, dict) for item in items):
        try:
            turns = tuple(map(_message, items))
        except Unusable as error:
            raise Unusable("unreadable_history", f"column history: {error}") from None
        if turns[-1]["role"] != "assistant":
            raise Unusable("unreadable_history")
        return turns
    if not all(map(_is_pair, items)):
        raise Unusable("unreadable_history")
    if all(item[0].lower() in ROLES for item in items):  # and no user's text is a role alone
        turns = tuple({"role": ROLES[role.lower()], "content": text} for role, text in items)
        if [turn["role"] for turn in turns[-2:]] != ["user", "assistant"]:
            raise Unusable("unreadable_history")
        return turns
    pairs = (zip(_PAIR_ROLES, item, strict=True) for item in items)
    return tuple({"role": role, "content": text} for pair in pairs for role, text in pair)


def _is_pair(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(isinstance(text, str) for text in value)


def _check_system(turns: Messages) -> None:
    for turn in turns[1:]:
        if turn["role"] == "system":
            raise Unusable("system_not_first")


def check_prompt(turns: Messages) -> Messages:
    """The turns, if they are a prompt. Raises Unusable."""
    is_of_user = bool(turns) and turns[-1]["role"] == "user"
    if not is_of_user and not all(is_blank(turn["content"]) for turn in turns):
        raise Unusable("no_user_turn_last")
    if not is_of_user or is_blank(turns[-1]["content"]):
        raise Unusable("no_prompt")
    _check_system(turns)
    if any(_needs_image(turn["content"]) for turn in turns):
        raise Unusable("image", f"a turn has {_IMAGE} in place of an image")
    return turns


def _needs_image(text: str) -> bool:
    """Whether a text begins or ends with the place of an image, and neither is XML nor speaks of the tag."""
    if _IMAGE not in text or "</image>" in text:
        return False
    is_at_head = text.lstrip().startswith(_IMAGE) and not text.lstrip().startswith(f"{_IMAGE} ")
    return is_at_head or text.rstrip().endswith(f"\n{_IMAGE}")


def read_reply(value: Any, prompt: Messages | None) -> Conversation:
    """A side of a comparison: text after the prompt, one turn of the assistant, or a whole conversation.

    A whole conversation must begin with the prompt; a system turn before it is kept. Raises Unusable.
    """
    if is_null(value):
        raise Unusable("no_reply")
    turns = read_turns(value)
    if turns is None:
        if prompt is None:
            raise Unusable("no_prompt")
        if is_blank(value):
            raise Unusable("no_reply")
        return Conversation(prompt, _check_media(check_reply(value)))
    if not turns or turns[-1]["role"] != "assistant":
        raise Unusable("not_one_reply")
    _check_system(turns)
    *head, reply = turns
    if head and head[-1]["role"] == "assistant":
        raise Unusable("not_one_reply")
    if is_blank(reply["content"]):
        raise Unusable("no_reply")
    if not head:
        if prompt is None:
            raise Unusable("no_prompt")
        return Conversation(prompt, reply["content"])
    if prompt is None:
        return Conversation(check_prompt(tuple(head)), reply["content"])
    return Conversation(_longer(prompt, tuple(head)), reply["content"])


def _check_media(reply: str) -> str:
    """The reply, unless it is the path of an image, a video or sound. Raises Unusable."""
    if len(reply) < 300 and _MEDIA_PATH.fullmatch(reply.strip()):
        raise Unusable("image", "a reply is the path of an image, a video or sound")
    return reply


def _longer(prompt: Messages, head: Messages) -> Messages:
    """What stands before the reply of a whole conversation, which begins or ends with the prompt.

    A system turn may be in either of them only. Blanks around texts do not count.
    """
    (head_system, head_turns), (prompt_system, prompt_turns) = map(_without_system, (head, prompt))
    size = len(prompt_turns)
    is_other_system = head_system and prompt_system and stripped(head_system) != stripped(prompt_system)
    beginning, end = stripped(head_turns[:size]), stripped(head_turns[-size:])
    if is_other_system or stripped(prompt_turns) not in (beginning, end):
        raise Unusable("prompts_differ")
    return check_prompt((*(prompt_system or head_system), *head_turns))


def at_head(prompt: Messages, conversation: Any) -> Messages:
    """The prompt, behind the system turn of the whole conversation that begins with it. Raises Unusable."""
    system, turns = _without_system(read_turns(conversation) or ())
    return _longer(prompt, (*system, *turns[: len(_without_system(prompt)[1])]))


def stripped(turns: Messages) -> Messages:
    """The turns without blanks around their texts."""
    return tuple({"role": turn["role"], "content": turn["content"].strip()} for turn in turns)


def _without_system(turns: Messages) -> tuple[Messages, Messages]:
    """The system turns, and the others."""
    system = tuple(turn for turn in turns if turn["role"] == "system")
    return system, tuple(turn for turn in turns if turn["role"] != "system")


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise Unusable("not_text", "a turn is not an object of role and content")
    role = _sole_value(turn, "unknown_role", "role", "from")
    role = role.lower() if isinstance(role, str) else ""
    if len(turn) > 2:  # most turns have a role and a text only
        check_images(turn)
    if role in TOOL_ROLES or _has_tools(turn):
        raise Unusable("tool_turn")
    if role not in ROLES:
        if (value := first_value(turn, "role", "from")) is not None:
            raise Unusable("unknown_role", f"a turn has the role {value!r:.40}")
        raise Unusable("unknown_role", f"no role in {', '.join(map(str, turn)) or 'nothing'}")
    return {"role": ROLES[role], "content": _text(_sole_value(turn, "not_text", "content", "value", "text"))}


def _has_tools(turn: dict[str, Any]) -> bool:
    values = () if TOOL_CALLS.isdisjoint(turn) else map(turn.get, TOOL_CALLS)
    return any(value and value not in ("[]", "{}", *NULLS) for value in values)


def _sole_value(turn: dict[str, Any], reason: str, *names: str) -> Any:
    """The value under any of the names; where several have one, it must be the same."""
    values = {name: turn[name] for name in names if turn.get(name) is not None}
    value = next(iter(values.values()), None)
    if any(other_value != value for other_value in values.values()):
        raise Unusable(reason, f"a turn has different values in {' and '.join(values)}")
    return value


def first_value(values: Mapping[str, Any], *names: str) -> Any:
    """The first of the named values that is not null."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def _text(content: Any) -> str:
    """Text, or the text of a list of text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if content is None:
        raise Unusable("not_text", "a turn has no text")
    if not isinstance(content, Sequence):
        raise Unusable("not_text", f"{type(content).__name__} where a turn's text is needed")
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS:
            check_images(part)
            parts.append(_text(part.get("text")))
        else:
            raise Unusable("not_text", "a turn has a part that is not text, such as an image")
    return "".join(parts)
