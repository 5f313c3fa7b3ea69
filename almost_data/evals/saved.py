"""Files that `eval vicuna` reads: questions, answers and reviews as FastChat saves them, one JSON a line."""

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import InputError
from .result import Pinned

Id = int | str
T = TypeVar("T", bound="Row")


class Row(msgspec.Struct, frozen=True):
    """What every such row has; keys that are not named here are left alone."""

    question_id: Id


class Question(Row, frozen=True):
    text: str
    category: str | None = None


class Answer(Row, frozen=True):
    text: str
    model_id: str | None = None
    """Who wrote it; `fake/...` marks the result."""
    error: str | None = None
    """Why there is none, where it could not be written: then it is not compared."""


class Review(Row, frozen=True):
    """What a judge said of the first answer and the second one."""

    text: str | None = None
    score: tuple[float, float] | None = None


def questions(file: Path) -> dict[str, Question]:
    """Questions by id, in the order of the file. Raises InputError naming file and line."""
    found = _rows(file, Question, "question_id and text")
    for id, one in found.items():
        if not one.text.strip():
            raise InputError(f"{file}: question {id} has no text")
    return found


def answers(file: Path) -> dict[str, Answer]:
    """Answers by question's id."""
    return _rows(file, Answer, "question_id and text")


def reviews(file: Path) -> dict[str, Review]:
    """Reviews by question's id; a score that is no pair of numbers is None."""
    return _rows(file, Review, "question_id, and text or score")


def pinned(file: Path, role: str) -> Pinned:
    """A file by name and sha256. Raises InputError where it cannot be read."""
    return Pinned(file.name, f"sha256:{hashlib.sha256(_bytes(file)).hexdigest()}", role)


def _rows(file: Path, kind: type[T], needs: str) -> dict[str, T]:
    found: dict[str, T] = {}
    for number, line in enumerate(_bytes(file).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{file}:{number}: one JSON object a line with {needs} ({error})") from None
        if (id := str(row.question_id)) in found:
            raise InputError(f"{file}:{number}: question {id!r} stands twice")
        found[id] = row
    if not found:
        raise InputError(f"{file}: no row in it; it needs {needs}, one JSON object a line")
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
