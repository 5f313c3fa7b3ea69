"""What lm-evaluation-harness keeps of its answers, below `<root>/evals/.lm-eval/`: whose, and is it safe?

The library unpickles what it finds there, and a store may be somebody else's.
"""

import contextlib
import hashlib
import io
import pickle
import sqlite3
from pathlib import Path
from typing import Any, cast

from ..datasets.manifest import canonical_json
from ..errors import InputError
from ..store.store import Store
from .result import LOGIC, PACKAGES, home, installed
from .subject import Likelihood, Subject, precision

BUSY = 10.0
"""Seconds to wait for another process that has a cache locked."""
CACHE = [
    ("table", "unnamed", 'CREATE TABLE "unnamed" (key TEXT PRIMARY KEY, value BLOB)'),
    ("index", "sqlite_autoindex_unnamed_1", None),
]
"""All that the library makes in a cache: no view, no trigger."""


def place(store: Store, subject: Subject) -> Path:
    """Where the library keeps what this model answers, less the ending that it adds.

    The name is a hash of all that decides an answer beside the request, which the library hashes itself. What
    it would read there it unpickles: a file with anything but plain values in it is deleted first. Raises
    InputError where another process has it locked.
    """
    versions = {name: installed(name) for name in PACKAGES}
    model, scorer = subject.pinned, cast(Likelihood, subject.scorer)
    parts = [
        LOGIC["lm-eval"],
        model.id,
        model.revision,
        scorer.max_tokens,
        *precision(scorer.options),
        versions,
    ]
    found = home(store) / ".lm-eval" / hashlib.sha256(canonical_json(parts)).hexdigest()
    for file in found.parent.glob(f"{found.name}_*.db"):
        if not is_plain(file):
            file.unlink(missing_ok=True)
    return found


def is_plain(file: Path) -> bool:
    """Whether a cache is whole and no more than the library makes, and reading it makes answers and calls
    nothing. Raises InputError where another process has it locked.

    Opened to be written, though nothing is: only so does sqlite undo what a killed process left half done.
    """
    try:
        database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", timeout=BUSY, uri=True)
        with contextlib.closing(database):
            made = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            if made != CACHE:
                return not made  # another process has just made it, and has no table in it yet
            values = database.execute("SELECT value FROM unnamed").fetchall()
        return all(_is_answer(_Plain(io.BytesIO(value)).load()) for (value,) in values)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise InputError(f"{file}: another process uses this cache of answers; try again") from None
        return False
    except Exception:  # whatever a damaged or hostile file makes the two raise
        return False


def _is_answer(value: Any) -> bool:
    """Log-probability and whether it is the likeliest, the former alone, or a text."""
    match value:
        case (float(), bool()) | float() | int() | str():
            return True
    return False


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a cache of answers")
