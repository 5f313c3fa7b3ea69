"""The journal's SQLite file: its tables, a build's session, the progress of each build, and pruning."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

SYNCHRONOUS = "FULL"
"""SQLite's setting: replies that were committed survive a power cut."""
_FORMAT = 11
_LOG_PAGES = 10_000
"""Pages of the log, 40 MB, before they go to the file: a page that many replies change is written once."""
_TABLES = (
    # Replies, and their cost: texts in the order in which they came, and a small index of their keys.
    "reply (key BLOB PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT, prompt_tokens INTEGER, "
    "completion_tokens INTEGER, reasoning TEXT, cached_tokens INTEGER, seconds REAL, load_seconds REAL, "
    "cost REAL, answered_as TEXT) STRICT",
    # Requests that failed, and have not been answered since.
    "failure (key BLOB PRIMARY KEY, error TEXT, prompt_tokens INTEGER, seconds REAL, load_seconds REAL, "
    "cost REAL) WITHOUT ROWID, STRICT",
    "score (key BLOB PRIMARY KEY, value REAL NOT NULL, tokens INTEGER, truncated INTEGER) "
    "WITHOUT ROWID, STRICT",
    # Which replies and scores a build needs, and in which of its runs it needed them last.
    "need (build TEXT, key BLOB, run INTEGER, PRIMARY KEY (build, key)) WITHOUT ROWID, STRICT",
    # Each build: its last run, whether it is in the store, and the origin of its answers over all runs.
    "build (name TEXT PRIMARY KEY, run INTEGER, published INTEGER, from_journal INTEGER, computed INTEGER) "
    "WITHOUT ROWID, STRICT",
)


@dataclass(frozen=True)
class Status:
    """How far a build is. `requests = answered + failed + pending`; a score is an answer like a reply."""

    name: str
    published: bool
    requests: int
    answered: int
    failed: int
    from_journal: int
    """Answers that its runs found in the journal."""
    computed: int
    """Answers that an engine or a scorer gave its runs."""
    errors: dict[str, int] = field(default_factory=dict)
    """Error -> requests that failed with it, the most frequent first."""

    @property
    def pending(self) -> int:
        return self.requests - self.answered - self.failed


def status(path: Path, refs: Iterable[str] = (), *, finished: bool = True) -> list[Status]:
    """How far each build is, by name; empty without a journal. `refs` are the datasets in the store.

    Without the `finished` ones, whose millions of requests then need not be counted.
    """
    if not path.is_file():
        return []
    stored = set(refs)
    with open_journal(path) as database:
        builds = database.execute("SELECT * FROM build ORDER BY name").fetchall()
        is_published = {build[0]: build[0] in stored or bool(build[2]) for build in builds}
        counted = [build for build in builds if finished or not is_published[build[0]]]
        return [_status(database, build, is_published[build[0]]) for build in counted]


def _status(database: sqlite3.Connection, build: tuple[str, int, int, int, int], published: bool) -> Status:
    name, run, _, from_journal, computed = build
    requests, replies, scores, failed = database.execute(_COUNTS, (name, run)).fetchone()
    errors = database.execute(_ERRORS, (name, run)).fetchall() if failed else []
    return Status(
        name=name,
        published=published,
        requests=requests,
        answered=replies + scores,
        failed=failed,
        from_journal=from_journal,
        computed=computed,
        errors=dict(errors),
    )


_COUNTS = """
    SELECT count(*), count(reply.key), count(score.key), count(failure.key) FROM need
    LEFT JOIN reply ON reply.key = need.key LEFT JOIN score ON score.key = need.key
    LEFT JOIN failure ON failure.key = need.key WHERE build = ? AND run = ?
"""
_ERRORS = """
    SELECT error, count(*) FROM need JOIN failure USING (key) WHERE build = ? AND run = ?
    GROUP BY error ORDER BY count(*) DESC, error
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
            database.executemany("DELETE FROM build WHERE name = ?", deletable)
            database.execute("DELETE FROM failure WHERE key NOT IN (SELECT key FROM need)")
            orphans = "DELETE FROM {} WHERE key NOT IN (SELECT key FROM need)"
            deleted = sum(database.execute(orphans.format(table)).rowcount for table in ("reply", "score"))
            remaining = {row[0] for row in database.execute("SELECT name FROM build")}
        if remaining <= set(locked):  # so no running build waits for VACUUM
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def count(path: Path, table: Literal["reply", "score"] = "reply") -> int:
    """Replies in the journal, or scores."""
    with open_journal(path) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


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

    @contextmanager
    def connect(self, counts: AnswerCounts) -> Iterator[sqlite3.Connection]:
        """The open journal. At the end the answers that were added to `counts` are added to the build's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before = replace(counts)
        with open_journal(self.path) as database:
            try:
                yield database
            finally:
                origins = (counts.from_journal - before.from_journal, counts.computed - before.computed)
                update = "UPDATE build SET from_journal = from_journal + ?, computed = computed + ? "
                with database:
                    database.execute(update + "WHERE name = ?", (*origins, self.build))

    def register(self, database: sqlite3.Connection, keys: Iterable[bytes]) -> None:
        """Record that the build needs these keys; the first call begins the run."""
        with database:
            if self.run is None:
                # The process that published them may have been killed before it could record that.
                stored = ((ref,) for ref in self.refs)
                database.executemany("UPDATE build SET published = 1 WHERE name = ?", stored)
                database.execute("INSERT OR IGNORE INTO build VALUES (?, 0, 0, 0, 0)", (self.build,))
                begin = "UPDATE build SET published = 0, run = run + 1 WHERE name = ? RETURNING run"
                self.run = int(database.execute(begin, (self.build,)).fetchone()[0])
            # In the order of the table, which is written at its end then.
            rows = ((self.build, key, self.run) for key in sorted(keys))
            database.executemany("INSERT OR REPLACE INTO need VALUES (?, ?, ?)", rows)

    def lookup(
        self, database: sqlite3.Connection, table: Literal["reply", "score"], keys: list[bytes]
    ) -> dict[bytes, tuple[Any, ...]]:
        """The rows of these keys that the journal has, without the key itself."""
        query = f"SELECT * FROM {table} WHERE key IN ({', '.join('?' * len(keys))})"
        return {key: row for key, *row in database.execute(query, keys)}

    def mark_published(self) -> None:
        """Record that the build is in the store, and forget what only its earlier runs needed."""
        if self.run is None:
            return
        with open_journal(self.path) as database, database:
            database.execute("UPDATE build SET published = 1 WHERE name = ?", (self.build,))
            earlier = "DELETE FROM need WHERE build = ? AND run < ?"
            database.execute(earlier, (self.build, self.run))


@contextmanager
def open_journal(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal at `path`, created if there is none. SQLite's errors become one sentence with the path.

    Raises InputError for a damaged file or another format, RuntimeError for a file that cannot be used now.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file, so it cannot be the journal: move it away")
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
