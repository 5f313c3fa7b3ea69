"""The prompts of a benchmark's file, whatever its format and the name of its column."""

from typing import Any

from ..errors import InputError
from ..models.files import file_sha256
from . import files
from .conversations import read_turns
from .reasons import Unusable

SUFFIXES = (".txt", *files.TABLE_SUFFIXES)
COLUMNS = ("prompt", "question", "query", "input", "instruction", "text", "messages")
"""Names of a prompt's column, in letters of any case; the first that is not empty is read."""


def read_prompts(path: str) -> list[str]:
    """The prompts of a benchmark: texts, or the user's turns of lists of messages. Raises InputError.

    `.txt` has one prompt a line; the items of a `.json` list may be texts themselves.
    """
    files.check_file(path, SUFFIXES)
    rows = files.read_rows(path, SUFFIXES, needs=lambda column: column.lower() in COLUMNS)
    texts = [text.strip() for place, row in rows for text in _texts(place, row)]
    if not any(texts):
        raise InputError(f"{path}: no prompt in it")
    return [text for text in texts if text]


def sha256(path: str) -> str:
    """The sha256 of a benchmark's file, which a fingerprint contains."""
    return file_sha256(files.check_file(path, SUFFIXES))


def _texts(place: str, row: dict[str, Any]) -> list[str]:
    """The prompt of a row, or each of its user's turns."""
    names = [name for name in row if name.lower() in COLUMNS]
    if not names:
        raise InputError(f"{place}: no column for the prompt: name it one of {', '.join(COLUMNS)}")
    names.sort(key=lambda name: COLUMNS.index(name.lower()))
    name = next((name for name in names if row[name]), names[0])
    value = row[name] or ""
    try:
        turns = read_turns(value)
    except Unusable as error:
        raise InputError(f"{place}: {name} must be text or a list of {{role, content}} ({error})") from None
    return [value] if turns is None else [turn["content"] for turn in turns if turn["role"] == "user"]
