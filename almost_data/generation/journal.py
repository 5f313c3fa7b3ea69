"""Every reply kept on disk as it comes: what was answered once is never asked again.

An SQLite file in WAL mode. Replies are committed every 64 or every second, whichever is first, so
`kill -9` or a power cut costs a second of work at most. A changed filter, threshold or card finds
every reply here, and no engine is started.

A request that failed is asked again by the next run, until a dataset with that failure in it is
published: then it has failed in every later version too, unless `retry_failed` is on.
"""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError
from . import Generator, Model, Reply, Request
from .isolate import answers

REPLIES = 64
SECONDS = 1.0
MAX_FAILURES = 0.01
"""Share of a build's requests that may fail."""
_LOOKUP = 500
"""Keys asked for in one query."""
_FORMAT = 2
_TABLES = (
    # What was answered, and what that cost.
    "reply (key BLOB PRIMARY KEY, text TEXT, finish_reason TEXT, prompt_tokens INTEGER, "
    "completion_tokens INTEGER, cached_tokens INTEGER, seconds REAL, load_seconds REAL) WITHOUT ROWID",
    # What failed, and has not been answered since.
    "failure (key BLOB PRIMARY KEY, error TEXT, prompt_tokens INTEGER) WITHOUT ROWID",
    # Which build wants which replies.
    "wanted (build TEXT, key BLOB, PRIMARY KEY (build, key)) WITHOUT ROWID",
    # Each build: is it in the store, and over all its runs, how many replies came from where.
    "build (name TEXT PRIMARY KEY, published INTEGER, found INTEGER, asked INTEGER) WITHOUT ROWID",
)


def key(request: Request) -> bytes:
    """What decides a reply: prompt, model and revision, sampling, sample, and the row's seed or none."""
    model = request.model
    parts = [request.prompt, model.id, model.revision, request.sampling, request.sample, request.seed]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


class Journaled:
    """A Generator that asks its engine only what the journal does not know.

    `build` names the dataset that the replies are for, `refs` are those in the store. More failures than
    `max_failures` of its requests (one is always allowed, unless it is 0) end the run.
    """

    def __init__(
        self,
        engine: Generator,
        path: Path,
        build: str = "",
        max_failures: float = MAX_FAILURES,
        retry_failed: bool = False,
        refs: Iterable[str] = (),
    ) -> None:
        self.engine = engine
        self.name = engine.name
        self.honours_seed = engine.honours_seed
        self.path = path
        self.build = build
        self.max_failures = max_failures
        self.retry_failed = retry_failed
        self.refs = refs
        self.found = 0
        """Replies that came from the journal."""
        self.asked = 0
        """Replies that came from the engine."""
        self._begun = False

    @property
    def load_seconds(self) -> float:
        return self.engine.load_seconds

    def resolve(self, model: Model) -> Model:
        return self.engine.resolve(model)

    def settings(self) -> dict[str, Any]:
        return self.engine.settings()

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Known replies first, then the engine's as they finish.

        Raises RuntimeError if it cannot write, or where too many requests fail.
        """
        wanted = list(requests)
        if len({request.id for request in wanted}) < len(wanted):
            raise ValueError("two requests have the same id")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found, asked = self.found, self.asked
        with closing(_open(self.path)) as database:
            self._register(database, wanted)
            try:
                missing = []
                for request, reply in self._known(database, wanted):
                    if reply:
                        self.found += 1
                        yield reply
                    else:
                        missing.append(request)
                if missing:
                    yield from self._ask(database, missing)
            finally:
                count = "UPDATE build SET found = found + ?, asked = asked + ? WHERE name = ?"
                with _told(self.path), database:
                    database.execute(count, (self.found - found, self.asked - asked, self.build))

    def published(self) -> None:
        """Say that the build is in the store: its failures stand, and `prune` keeps its replies with it."""
        with closing(_open(self.path)) as database, _told(self.path), database:
            database.execute("UPDATE build SET published = 1 WHERE name = ?", (self.build,))

    def _register(self, database: sqlite3.Connection, wanted: list[Request]) -> None:
        with _told(self.path), database:
            if not self._begun:
                # Whoever published them may have been killed before saying so.
                there = ((ref,) for ref in self.refs)
                database.executemany("UPDATE build SET published = 1 WHERE name = ?", there)
                database.execute("INSERT OR IGNORE INTO build VALUES (?, 0, 0, 0)", (self.build,))
                database.execute("UPDATE build SET published = 0 WHERE name = ?", (self.build,))
                database.execute("DELETE FROM wanted WHERE build = ?", (self.build,))
            rows = ((self.build, key(request)) for request in wanted)
            database.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?)", rows)
        self._begun = True

    def _known(
        self, database: sqlite3.Connection, requests: list[Request]
    ) -> Iterator[tuple[Request, Reply | None]]:
        """Each request with its reply, if the journal has one that stands."""
        with _told(self.path):
            failures = {} if self.retry_failed else dict(database.execute(_SETTLED).fetchall())
        for start in range(0, len(requests), _LOOKUP):
            some = requests[start : start + _LOOKUP]
            keys = [key(request) for request in some]
            marks = ", ".join("?" * len(keys))
            with _told(self.path):
                rows = database.execute(f"SELECT * FROM reply WHERE key IN ({marks})", keys).fetchall()
            found = {row[0]: row[1:] for row in rows}
            for request, one in zip(some, keys, strict=True):
                if one in found:
                    text, reason, prompt, completion, *cost = found[one]
                    yield request, Reply(request.id, text, reason, prompt, completion, None, *cost)
                elif one in failures:
                    yield request, Reply(request.id, "", "error", error=failures[one])
                else:
                    yield request, None

    def _ask(self, database: sqlite3.Connection, requests: list[Request]) -> Iterator[Reply]:
        keys = {request.id: key(request) for request in requests}
        allowed = max(self.max_failures * (self.found + self.asked + len(requests)), self.max_failures > 0)
        failed = 0
        writer = _Writer(database, self.path)
        try:
            start, loaded = time.monotonic(), self.engine.load_seconds
            for one in answers(self.engine, requests):
                load = self.engine.load_seconds - loaded
                seconds = max(0.0, time.monotonic() - start - load)
                reply = replace(one, seconds=seconds, load_seconds=load)
                writer.add(keys[reply.id], reply)
                self.asked += 1
                failed += reply.error is not None
                if reply.error and failed > allowed:
                    raise RuntimeError(
                        f"{failed} requests failed, more than --max-failures {self.max_failures:g} allows; "
                        f"the last one: {reply.error}. What was answered is kept: mend the cause and run "
                        "again, or raise --max-failures"
                    )
                yield reply
                start, loaded = time.monotonic(), self.engine.load_seconds
        finally:
            writer.close()


_SETTLED = """
    SELECT DISTINCT failure.key, error FROM failure JOIN build ON published
    JOIN wanted ON wanted.build = build.name AND wanted.key = failure.key
"""


class _Writer:
    """Commits what it is given in batches, and from a thread of its own when no more comes."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self.database = database
        self.path = path
        self.replies: list[tuple[Any, ...]] = []
        self.failures: list[tuple[Any, ...]] = []
        self.error: sqlite3.Error | None = None
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._tick, name="journal", daemon=True)
        self.thread.start()

    def add(self, key: bytes, reply: Reply) -> None:
        with self.lock:
            if reply.error:
                self.failures.append((key, reply.error, reply.prompt_tokens))
            else:
                cost = (reply.cached_tokens, reply.seconds, reply.load_seconds)
                tokens = (reply.prompt_tokens, reply.completion_tokens)
                self.replies.append((key, reply.text, reply.finish_reason, *tokens, *cost))
            if len(self.replies) + len(self.failures) >= REPLIES:
                self._commit()
        self._check()

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        with self.lock:
            self._commit()
        self._check()

    def _tick(self) -> None:
        while not self.done.wait(SECONDS):
            with self.lock:
                self._commit()

    def _commit(self) -> None:
        if not (self.replies or self.failures) or self.error:
            return
        try:
            with self.database as database:
                database.executemany("INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", self.failures)
                marks = ", ".join("?" * 8)
                database.executemany(f"INSERT OR REPLACE INTO reply VALUES ({marks})", self.replies)
                answered = ((row[0],) for row in self.replies)
                database.executemany("DELETE FROM failure WHERE key = ?", answered)
        except sqlite3.Error as error:  # told to the build's own thread, at its next reply
            self.error = error
        self.replies, self.failures = [], []

    def _check(self) -> None:
        if self.error:
            raise RuntimeError(f"{self.path}: the journal cannot be written: {self.error}")


@dataclass(frozen=True)
class Status:
    """How far a build is. `requests = answered + failed + pending`."""

    name: str
    published: bool
    requests: int
    answered: int
    failed: int
    found: int
    """Replies that its runs took from the journal, and in `asked`, from the engine."""
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
    with closing(_open(path)) as database, _told(path):
        builds = database.execute("SELECT * FROM build ORDER BY name").fetchall()
        return [_status(database, row, row[0] in known) for row in builds]


def _status(database: sqlite3.Connection, build: tuple[str, int, int, int], in_store: bool) -> Status:
    name, published, found, asked = build
    counts = []
    for join in ("", "JOIN reply USING (key)", "JOIN failure USING (key)"):
        some = database.execute(f"SELECT count(*) FROM wanted {join} WHERE build = ?", (name,))
        counts.append(int(some.fetchone()[0]))
    requests, answered, failed = counts
    errors = dict(database.execute(_ERRORS, (name,)).fetchall())
    return Status(name, in_store or bool(published), requests, answered, failed, found, asked, errors)


_ERRORS = """
    SELECT error, count(*) FROM wanted JOIN failure USING (key) WHERE build = ?
    GROUP BY error ORDER BY count(*) DESC, error
"""


def prune(path: Path, refs: Iterable[str], unfinished: bool, running: Iterable[str] = ()) -> int:
    """Delete every reply that no dataset of the store wants, nor a running build, nor, without
    `unfinished`, one still to finish; the number of replies deleted."""
    with closing(_open(path)) as database, _told(path):
        with database:
            database.executemany("UPDATE build SET published = 1 WHERE name = ?", [(ref,) for ref in refs])
            there = {*refs, *running}
            builds = database.execute("SELECT name, published FROM build").fetchall()
            gone = [(name,) for name, done in builds if name not in there and (done or unfinished)]
            database.executemany("DELETE FROM wanted WHERE build = ?", gone)
            database.executemany("DELETE FROM build WHERE name = ?", gone)
            database.execute("DELETE FROM failure WHERE key NOT IN (SELECT key FROM wanted)")
            deleted = database.execute("DELETE FROM reply WHERE key NOT IN (SELECT key FROM wanted)").rowcount
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def count(path: Path) -> int:
    """Replies in the journal."""
    with closing(_open(path)) as database, _told(path):
        return int(database.execute("SELECT count(*) FROM reply").fetchone()[0])


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as one sentence that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise RuntimeError(f"{path}: the journal cannot be read or written: {error}") from None


def _open(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, timeout=60, check_same_thread=False)
        if _format(database) != _FORMAT:
            with database:  # one transaction: whoever looks, and whatever kills it, finds none or all of it
                database.execute("BEGIN IMMEDIATE")
                found = _format(database)
                tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if found != _FORMAT and (found or tables):
                    raise InputError(f"{path}: a journal of another version of almost_data: move it away")
                for table in _TABLES:
                    database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
                database.execute(f"PRAGMA user_version = {_FORMAT}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except sqlite3.OperationalError as error:  # disk full, no right to write
        raise RuntimeError(f"{path}: the journal cannot be written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: cannot be used as a journal ({error}): move it away") from None
    return database


def _format(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
