"""Turns that a file holds as JSON text, told apart from replies that are JSON."""

import re
from typing import Any

import msgspec

from .reasons import Unusable

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Role as files spell it, in letters of any case -> role of a message."""
_JSON_START = re.compile(r"\s*(?:\[\s*\{|\{'\w+':)")
"""How a list of turns begins in JSON, or an object as Python prints it; one object of JSON may be a reply."""
_JSON_VALUE = re.compile(r"""\s*["{\[]""")
_JSON_TURNS = re.compile(r"""\s*\[?\s*\{\s*["'](role|from|content|value)["']\s*:""")
_TURN_KEYS = [re.compile(rf"""["']({names})["']\s*:""") for names in ("role|from", "content|value|text")]
HEAD = 1_000
"""Characters in which a list of turns shows the keys of a turn."""
_ROLE_KEYS, _TEXT_KEYS = frozenset(("role", "from")), frozenset(("content", "value", "text"))
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of the parts of a content that are text."""


def json_turns(text: str) -> Any:
    """The turns that a text holds as JSON; None where it is text, or a reply in JSON. Raises Unusable."""
    if not _JSON_START.match(text):
        return None
    if (value := _decoded(text)) is None:
        if _JSON_TURNS.match(text) or all(key.search(text, 0, HEAD) for key in _TURN_KEYS):
            raise Unusable("unreadable_json")
        return None
    has_roles = [isinstance(turn, dict) and not _ROLE_KEYS.isdisjoint(turn) for turn in value]
    is_turn = any(map(_looks_like_a_turn, value))
    return value if is_turn or (has_roles and all(has_roles)) else None


def is_written_turn(text: str) -> bool:
    """Whether a text is JSON of a turn, its content, a request or a server's answer, also as JSON in JSON.

    Where most texts of a column are, no reply shows one.
    """
    return _JSON_VALUE.match(text) is not None and _is_turn_value(_decoded(text))


def is_quoted_text(text: str) -> bool:
    r"""Whether a text is a JSON string with an escape in it, as where a file was encoded twice.

    >>> is_quoted_text('"So.\\nOr so."'), is_quoted_text('"So," she said.'), is_quoted_text('"So."')
    (True, False, False)
    """
    return text.startswith('"') and "\\" in text and isinstance(_decoded(text), str)


def _is_turn_value(value: Any) -> bool:
    if isinstance(value, str):
        return _JSON_START.match(value) is not None or is_written_turn(value)
    if isinstance(value, list):
        return any(_is_text_part(item) or (isinstance(item, list) and _is_dialogue(item)) for item in value)
    if not isinstance(value, dict):
        return False
    if any(isinstance(value.get(name), list) for name in ("messages", "choices")):
        return True
    if len(value) == 1:
        [(name, text)] = value.items()
        return name in _TEXT_KEYS and isinstance(text, str)
    return _looks_like_a_turn(value) and str(value.get("role", value.get("from"))).lower() in ROLES


def _is_text_part(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in TEXT_PARTS and isinstance(value.get("text"), str)


def _is_dialogue(value: list[Any]) -> bool:
    return bool(value) and all(map(_looks_like_a_turn, value))


def _looks_like_a_turn(value: Any) -> bool:
    return isinstance(value, dict) and not (_ROLE_KEYS.isdisjoint(value) or _TEXT_KEYS.isdisjoint(value))


def decode_list(text: str) -> list[Any] | None:
    """The list that a text is in JSON; None for any other text."""
    return _decoded(text) if text.lstrip().startswith("[") else None


def _decoded(text: str) -> Any:
    """The value that a text is in JSON; None where it is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
