"""The journal's file: its tables, how far each build in it is, and what of it can go."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import InputError

_FORMAT = 4
_OLDER = {3}
"""Formats that lack a table of this one, and nothing else: it is added where such a file is opened."""
_TABLES = (
    # What was answered, and what that cost.
    "reply (key BLOB PRIMARY KEY, text TEXT, finish_reason TEXT, prompt_tokens INTEGER, "
    "completion_tokens INTEGER, cached_tokens INTEGER, seconds REAL, load_seconds REAL) WITHOUT ROWID",
    # What failed, and has not been answered since.
    "failure (key BLOB PRIMARY KEY, error TEXT, prompt_tokens INTEGER, seconds REAL, load_seconds REAL) "
    "WITHOUT ROWID",
    # What a scorer said.
    "score (key BLOB PRIMARY KEY, value REAL, tokens INTEGER, truncated INTEGER) WITHOUT ROWID",
    # Which build wanted which replies and scores, and in which of its runs last.
    "wanted (build TEXT, key BLOB, run INTEGER, PRIMARY KEY (build, key)) WITHOUT ROWID",
    # Each build: its last run, is it in the store, and over all runs that ended, whence they came.
    "build (name TEXT PRIMARY KEY, run INTEGER, published INTEGER, found INTEGER, asked INTEGER) "
    "WITHOUT ROWID",
)


@dataclass(frozen=True)
class Status:
    """How far a build is. `requests = answered + failed + pending`; a score is an answer like a reply."""

    name: str
    published: bool
    requests: int
    answered: int
    failed: int
    found: int
    """Answers that its runs took from the journal, and in `asked`, from an engine or a scorer."""
    asked: int
    errors: dict[str, int] = field(default_factory=dict)
    """Error -> requests that failed with it, the most frequent first."""

    @property
    def pending(self) -> int:
        return self.requests - self.answered - self.failed


def status(path: Path, refs: Iterable[str] = ()) -> list[Status]:
    """How far each build is, by name. `refs` are the datasets in the store. No journal: none."""
    if not path.is_file():
        return []
    known = set(refs)
    with closing(open_journal(path)) as database, told(path):
        builds = database.execute("SELECT * FROM build ORDER BY name").fetchall()
        return [_status(database, row, row[0] in known) for row in builds]


def _status(database: sqlite3.Connection, build: tuple[str, int, int, int, int], in_store: bool) -> Status:
    name, run, published, found, asked = build
    counts = []
    for join in ("", *(f"JOIN {table} USING (key)" for table in ("reply", "score", "failure"))):
        some = database.execute(
            f"SELECT count(*) FROM wanted {join} WHERE build = ? AND run = ?", (name, run)
        )
        counts.append(int(some.fetchone()[0]))
    requests, replies, scores, failed = counts
    errors = dict(database.execute(_ERRORS, (name, run)).fetchall())
    answered = replies + scores
    return Status(name, in_store or bool(published), requests, answered, failed, found, asked, errors)


_ERRORS = """
    SELECT error, count(*) FROM wanted JOIN failure USING (key) WHERE build = ? AND run = ?
    GROUP BY error ORDER BY count(*) DESC, error
"""


def prune(path: Path, refs: Iterable[str], unfinished: bool, held: Iterable[str]) -> int:
    """Delete every reply and score that no build wants any more; the number deleted.

    Builds go of which the caller holds the lock, and which are not in the store (`refs`): those that were
    published once, and with `unfinished` all.
    """
    with closing(open_journal(path)) as database, told(path):
        with database:
            there = set(refs)
            database.executemany("UPDATE build SET published = 1 WHERE name = ?", [(ref,) for ref in there])
            published = {row[0] for row in database.execute("SELECT name FROM build WHERE published")}
            gone = [(name,) for name in held if name not in there and (unfinished or name in published)]
            database.executemany("DELETE FROM wanted WHERE build = ?", gone)
            database.executemany("DELETE FROM build WHERE name = ?", gone)
            database.execute("DELETE FROM failure WHERE key NOT IN (SELECT key FROM wanted)")
            orphans = "DELETE FROM {} WHERE key NOT IN (SELECT key FROM wanted)"
            deleted = sum(database.execute(orphans.format(table)).rowcount for table in ("reply", "score"))
            left = {row[0] for row in database.execute("SELECT name FROM build")}
        if left <= set(held):  # nobody waits for the file meanwhile
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def count(path: Path, table: Literal["reply", "score"] = "reply") -> int:
    """Replies in the journal, or scores."""
    with closing(open_journal(path)) as database, told(path):
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class Run:
    """One run of a build: what it wants of the journal, so that `prune` keeps that.

    A build that has replies and scores made is one run of both. `refs` are the datasets in the store.
    """

    def __init__(self, path: Path, build: str, refs: Iterable[str] = ()) -> None:
        self.path = path
        self.build = build
        self.refs = refs
        self.number: int | None = None

    def wants(self, database: sqlite3.Connection, keys: Iterable[bytes]) -> None:
        """Note what it wants; the first call begins the run."""
        with told(self.path), database:
            if self.number is None:
                # Whoever published them may have been killed before saying so.
                there = ((ref,) for ref in self.refs)
                database.executemany("UPDATE build SET published = 1 WHERE name = ?", there)
                database.execute("INSERT OR IGNORE INTO build VALUES (?, 0, 0, 0, 0)", (self.build,))
                begin = "UPDATE build SET published = 0, run = run + 1 WHERE name = ? RETURNING run"
                self.number = int(database.execute(begin, (self.build,)).fetchone()[0])
            rows = ((self.build, key, self.number) for key in keys)
            database.executemany("INSERT OR REPLACE INTO wanted VALUES (?, ?, ?)", rows)

    def had(self, database: sqlite3.Connection, found: int, asked: int) -> None:
        """Note how many answers came from the journal, and how many from an engine or a scorer."""
        count = "UPDATE build SET found = found + ?, asked = asked + ? WHERE name = ?"
        with told(self.path), database:
            database.execute(count, (found, asked, self.build))

    def published(self) -> None:
        """Say that the build is in the store: its failures stand, and what it wanted is kept with it."""
        with closing(open_journal(self.path)) as database, told(self.path), database:
            database.execute("UPDATE build SET published = 1 WHERE name = ?", (self.build,))
            earlier = "DELETE FROM wanted WHERE build = ? AND run < ?"
            database.execute(earlier, (self.build, self.number))


@contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors as one sentence that names the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RuntimeError(f"{path}: the journal cannot be read or written: {error}") from None
    except sqlite3.Error as error:
        raise RuntimeError(f"{path}: the journal is damaged ({error}): move it away") from None


def open_journal(path: Path) -> sqlite3.Connection:
    """The journal at `path`, made if there is none. Raises InputError for what is none of this format."""
    try:
        database = sqlite3.connect(path, timeout=60, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise RuntimeError(f"{path}: the journal cannot be opened: {error}") from None
    try:
        if _format(database) != _FORMAT:
            with database:  # one transaction: whoever looks, and whatever kills it, finds none or all of it
                database.execute("BEGIN IMMEDIATE")
                found = _format(database)
                tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if found not in {_FORMAT, *_OLDER} and (found or tables):
                    raise InputError(f"{path}: a journal of another version of almost_data: move it away")
                for table in _TABLES:
                    database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
                database.execute(f"PRAGMA user_version = {_FORMAT}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.OperationalError):  # disk full, no right to write
            raise RuntimeError(f"{path}: the journal cannot be written: {error}") from None
        if isinstance(error, sqlite3.DatabaseError):
            raise InputError(f"{path}: cannot be used as a journal ({error}): move it away") from None
        raise
    return database


def _format(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
