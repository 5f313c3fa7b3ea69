"""Files of `eval vicuna`: questions and answers as FastChat saves them, one JSON object a line."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..datasets.records import Pinned
from ..errors import InputError
from ..inputs import read_bytes
from ..readers import files

Id = int | str
R = TypeVar("R", bound="SavedRow")
NEEDS = "question_id and text"


class SavedRow(msgspec.Struct, frozen=True):
    """What every row has. Unknown keys are ignored."""

    question_id: Id


class Question(SavedRow, frozen=True):
    text: str
    category: str | None = None


class Answer(SavedRow, frozen=True):
    text: str
    model_id: str | None = None
    """Who wrote it; `fake/...` marks the result."""
    error: str | None = None
    """Why there is no answer: the question is then not compared."""


def questions(file: Path) -> dict[str, Question]:
    """Questions by id, in the order of the file. Raises InputError naming file and line."""
    rows = _rows(file, Question)
    for question_id, question in rows.items():
        if not question.text.strip():
            raise InputError(f"{file}: question {question_id} has no text")
    return rows


def answers(file: Path) -> dict[str, Answer]:
    """Answers by question's id."""
    return _rows(file, Answer)


def pinned_file(file: Path, role: str) -> Pinned:
    """A file by name and sha256. Raises InputError where it cannot be read."""
    return Pinned(file.name, f"sha256:{hashlib.sha256(read_bytes(file)).hexdigest()}", role)


def _rows(file: Path, kind: type[R]) -> dict[str, R]:
    rows: dict[str, R] = {}
    for place, content in files.read_rows(str(file), (".jsonl",)):
        try:
            row = msgspec.convert(_with_text(content), kind)
        except msgspec.ValidationError as error:
            raise InputError(f"{place}: give a row with {NEEDS} ({error})") from None
        if (question_id := str(row.question_id)) in rows:
            raise InputError(f"{place}: duplicate question {question_id!r}")
        rows[question_id] = row
    if not rows:
        raise InputError(f"{file}: no rows; give rows with {NEEDS}")
    return rows


def _with_text(row: dict[str, Any]) -> dict[str, Any]:
    """FastChat's current rows with `text`: one of a question's `turns`, or of an answer's first choice.

    A row of several turns is left as it is, and so refused: it is no question by itself.
    """
    match row:
        case {"text": _}:
            pass
        case {"turns": [str(text)]} | {"choices": [{"turns": [str(text)]}, *_]}:
            return {**row, "text": text}
    return row
