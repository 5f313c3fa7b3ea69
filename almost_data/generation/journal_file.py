"""The journal's SQLite file: its tables, a build's session, the progress of each build, and pruning."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

SYNCHRONOUS = "NORMAL"
"""SQLite's setting: a commit reaches the system; the journal's writer waits for the disk every second."""
LOOKUP = 500
"""Values in one query."""
KEY_BYTES = 16
AnswerTable = Literal["reply", "score"]
_FORMAT = 12
_LOG_PAGES = 10_000
"""Pages of the log, 40 MB, before they go to the file: a page that many replies change is written once."""
_REPLY = (
    "text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, "
    "error TEXT, reasoning TEXT, cached_tokens INTEGER, seconds REAL, load_seconds REAL, cost REAL, "
    "answered_as TEXT"
)
"""The fields of `Reply` besides its id."""
_TABLES = (
    # Replies and scores in the order in which they came.
    f"reply (id INTEGER PRIMARY KEY, key BLOB NOT NULL, {_REPLY}) STRICT",
    "score (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value REAL NOT NULL, tokens INTEGER, "
    "truncated INTEGER) STRICT",
    # Where each key is. Keys are added in their order before a lookup, many at a time: an index of the
    # tables above would change a page of the file for each reply.
    "reply_key (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT",
    "score_key (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT",
    # Requests that failed in the last run of a build.
    f"failure (build TEXT, key BLOB, {_REPLY}, PRIMARY KEY (build, key)) WITHOUT ROWID, STRICT",
    # The keys that a run of a build needs, many in a row.
    "need (build TEXT, run INTEGER, keys BLOB) STRICT",
    # Each build: whether it is in the store, the requests of its last run, and the origin of its answers
    # over all runs.
    "build (name TEXT PRIMARY KEY, run INTEGER, published INTEGER, requests INTEGER, answered INTEGER, "
    "failed INTEGER, from_journal INTEGER, computed INTEGER) WITHOUT ROWID, STRICT",
)


@dataclass(frozen=True)
class Status:
    """How far a build is in its last run. A score is an answer like a reply.

    `requests = answered + failed + pending`.
    """

    name: str
    published: bool
    errors: dict[str, int]
    """Error -> requests that failed with it, the most frequent first."""
    requests: int
    answered: int
    failed: int
    from_journal: int
    """Answers that all its runs found in the journal."""
    computed: int
    """Answers that an engine or a scorer gave all its runs."""

    @property
    def pending(self) -> int:
        return self.requests - self.answered - self.failed


def status(path: Path, refs: Iterable[str] = ()) -> list[Status]:
    """How far each build is, by name; empty without a journal. `refs` are the datasets in the store."""
    if not path.is_file():
        return []
    stored = set(refs)
    with open_journal(path) as database:
        builds = database.execute("SELECT * FROM build ORDER BY name").fetchall()
        errors: dict[str, dict[str, int]] = {}
        for build, error, count in database.execute(_ERRORS):
            errors.setdefault(build, {})[error] = count
    return [
        Status(name, name in stored or bool(published), errors.get(name, {}), *numbers)
        for name, _, published, *numbers in builds
    ]


_ERRORS = """
    SELECT build, error, count(*) FROM failure GROUP BY build, error ORDER BY build, count(*) DESC, error
"""


def prune(path: Path, refs: Iterable[str], unfinished: bool, locked: Iterable[str]) -> int:
    """Forget builds that are gone, then delete each reply and score that no build needs; returns how many.

    A build is forgotten if it is in `locked` (by the caller), is not in the store (`refs`), and was
    published earlier; with `unfinished`, also if it never was.
    """
    with open_journal(path) as database:
        with database:
            # Before anything is read: a transaction that reads first cannot write once another has written.
            database.execute("BEGIN IMMEDIATE")
            stored = set(refs)
            database.executemany("UPDATE build SET published = 1 WHERE name = ?", [(ref,) for ref in stored])
            published = {row[0] for row in database.execute("SELECT name FROM build WHERE published")}
            deletable = [
                (name,) for name in locked if name not in stored and (unfinished or name in published)
            ]
            database.executemany("DELETE FROM need WHERE build = ?", deletable)
            database.executemany("DELETE FROM failure WHERE build = ?", deletable)
            database.executemany("DELETE FROM build WHERE name = ?", deletable)
            deleted = _delete_orphans(database)
            remaining = {row[0] for row in database.execute("SELECT name FROM build")}
        if remaining <= set(locked):  # so no running build waits for VACUUM
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def _delete_orphans(database: sqlite3.Connection) -> int:
    """Delete the replies and scores that no build needs; returns how many."""
    database.execute("CREATE TEMP TABLE needed (key BLOB PRIMARY KEY) WITHOUT ROWID")
    for (keys,) in database.execute("SELECT keys FROM need"):
        parts = ((keys[at : at + KEY_BYTES],) for at in range(0, len(keys), KEY_BYTES))
        database.executemany("INSERT OR IGNORE INTO needed VALUES (?)", parts)
    deleted = 0
    for table in ("reply", "score"):
        database.execute(_ADD_KEYS.format(table))
        database.execute(f"DELETE FROM {table}_key WHERE key NOT IN (SELECT key FROM needed)")
        # Also the second answers to one key, of two builds that asked for it at the same time.
        orphans = f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM {table}_key)"
        deleted += database.execute(orphans).rowcount
    return deleted


def count(path: Path, table: AnswerTable = "reply") -> int:
    """Replies in the journal, or scores: one each that two builds asked for at the same time."""
    with open_journal(path) as database:
        return int(database.execute(_COUNT.format(table)).fetchone()[0])


# Without a look at the texts.
_COUNT = """
    SELECT (SELECT count(*) FROM {0}_key) + (
        SELECT count(*) FROM (
            SELECT key FROM {0} WHERE id > (SELECT coalesce(max(id), 0) FROM {0}_key)
            EXCEPT SELECT key FROM {0}_key
        )
    )
"""


@dataclass
class AnswerCounts:
    """Where the answers of one user of the journal came from."""

    from_journal: int = 0
    computed: int = 0
    """By an engine or a scorer."""


@dataclass(eq=False)
class JournalSession:
    """One run of a build with the journal: it registers the keys that the build needs, so `prune` keeps them.

    Replies and scores of a build share one session. `build` is its ref, `refs` the datasets in the store.
    """

    path: Path
    build: str = ""
    refs: Iterable[str] = ()
    run: int | None = field(default=None, init=False)

    def begin(self, build: str) -> None:
        """Go on as the session of another build."""
        self.build, self.run = build, None

    def register(
        self, database: sqlite3.Connection, table: AnswerTable, keys: Iterable[bytes]
    ) -> dict[bytes, int]:
        """Record that the build needs these keys; the ids of answers that exist, by key.

        The first call begins the run.
        """
        keys = list(keys)
        with database:
            if self.run is None:
                self._begin_run(database)
            database.execute("INSERT INTO need VALUES (?, ?, ?)", (self.build, self.run, b"".join(keys)))
            database.execute(_ADD_KEYS.format(table))
            answer_ids = dict(_select(database, f"SELECT key, id FROM {table}_key WHERE key", sorted(keys)))
            answered = sum(key in answer_ids for key in keys)
            self.count(database, requests=len(keys), answered=answered, from_journal=answered)
        return answer_ids

    def _begin_run(self, database: sqlite3.Connection) -> None:
        # The process that published them may have been killed before it could record that.
        stored = ((ref,) for ref in self.refs)
        database.executemany("UPDATE build SET published = 1 WHERE name = ?", stored)
        database.execute("INSERT OR IGNORE INTO build VALUES (?, 0, 0, 0, 0, 0, 0, 0)", (self.build,))
        database.execute("DELETE FROM failure WHERE build = ?", (self.build,))
        begin = (
            "UPDATE build SET published = 0, run = run + 1, requests = 0, answered = 0, failed = 0 "
            "WHERE name = ? RETURNING run"
        )
        self.run = int(database.execute(begin, (self.build,)).fetchone()[0])

    def count(self, database: sqlite3.Connection, **numbers: int) -> None:
        """Add to the build's numbers, by column, in the transaction of the answers that they count."""
        add = ", ".join(f"{column} = {column} + ?" for column in numbers)
        database.execute(f"UPDATE build SET {add} WHERE name = ?", (*numbers.values(), self.build))

    def answers(
        self, database: sqlite3.Connection, table: AnswerTable, ids: Iterable[int]
    ) -> Iterator[tuple[Any, ...]]:
        """The rows with these ids, few of them in memory at a time: id, key, and the rest."""
        return _select(database, f"SELECT * FROM {table} WHERE id", sorted(ids))

    def mark_published(self) -> None:
        """Record that the build is in the store, and forget what only its earlier runs needed."""
        if self.run is None:
            return
        with open_journal(self.path) as database, database:
            database.execute("UPDATE build SET published = 1 WHERE name = ?", (self.build,))
            earlier = "DELETE FROM need WHERE build = ? AND run < ?"
            database.execute(earlier, (self.build, self.run))


_ADD_KEYS = """
    INSERT OR IGNORE INTO {0}_key SELECT id, key FROM {0}
    WHERE id > (SELECT coalesce(max(id), 0) FROM {0}_key) ORDER BY key, id
"""


def _select(database: sqlite3.Connection, column_query: str, values: list[Any]) -> Iterator[tuple[Any, ...]]:
    """The rows that have one of the values in the column in which the query ends."""
    for start in range(0, len(values), LOOKUP):
        part = values[start : start + LOOKUP]
        yield from database.execute(f"{column_query} IN ({', '.join('?' * len(part))})", part).fetchall()


@contextmanager
def open_journal(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal at `path`, created if there is none. SQLite's errors become one sentence with the path.

    Raises InputError for a damaged file or another format, RuntimeError for a file that cannot be used now.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file, so it cannot be the journal: move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(_connect(path)) as database:
            if _format(database) != _FORMAT:
                _create_tables(database, path)
            _check_columns(database, path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
            database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            yield database
    except sqlite3.OperationalError as error:  # disk full, no right to write
        raise RuntimeError(f"{path}: the journal cannot be read or written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: cannot be used as a journal ({error}): move it away") from None


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; of a store that may only be read, without the log that SQLite would write beside it."""
    is_writable = not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    has_log = path.with_name(f"{path.name}-wal").exists()
    options = "" if is_writable else "?mode=ro" if has_log else "?immutable=1"
    return sqlite3.connect(path.resolve().as_uri() + options, timeout=60, check_same_thread=False, uri=True)


def _create_tables(database: sqlite3.Connection, path: Path) -> None:
    with database:  # one transaction: a reader sees all tables or none, even after a kill
        database.execute("BEGIN IMMEDIATE")
        number = _format(database)
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if number != _FORMAT and (number or tables):
            raise InputError(
                f"{path}: a journal of format {number}, and this almost_data reads format {_FORMAT}: "
                "move it away; published datasets stay, and a new build asks again for the replies in it"
            )
        for table in _TABLES:
            database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        database.execute(f"PRAGMA user_version = {_FORMAT}")


def _check_columns(database: sqlite3.Connection, path: Path) -> None:
    """Raise InputError where a table is not one of ours, whose columns hold values of their types only."""
    tables = database.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
    if {sql for (sql,) in tables} != {f"CREATE TABLE {table}" for table in _TABLES}:
        raise InputError(f"{path}: its tables are not those of a journal: move it away")


def _format(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
