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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from . import Closing, Generator, Model, Reply, Request
from .isolate import generate_isolated
from .journal_file import Run, open_journal, told

T = TypeVar("T")
REPLIES = 64
SECONDS = 1.0
MAX_FAILURES = 0.01
"""Share of a build's requests that may fail."""
_LOOKUP = 500
"""Keys asked for in one query."""


def key(request: Request) -> bytes:
    """What decides a reply: prompt, model and revision, sampling, sample, and the row's seed or none."""
    model = request.model
    parts = [request.prompt, model.id, model.revision, request.sampling, request.sample, request.seed]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


class Journaled:
    """A Generator that asks its engine only what the journal does not know.

    `build` names the dataset that the replies are for, `refs` are those in the store. More failures than
    `max_failures` of its requests (one is always allowed, unless it is 0) end the run, failures that stand
    from an earlier version included.
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
        self.run = Run(path, build, refs)
        self.max_failures = max_failures
        self.retry_failed = retry_failed
        self.others: tuple[Closing, ...] = ()
        """What shares its memory, and is closed before the engine is asked."""
        self.found = 0
        """Replies that came from the journal."""
        self.asked = 0
        """Replies that came from the engine."""
        self.failed = 0

    @property
    def load_seconds(self) -> float:
        return self.engine.load_seconds

    def resolve(self, model: Model) -> Model:
        return self.engine.resolve(model)

    def settings(self) -> dict[str, Any]:
        return self.engine.settings()

    def close(self) -> None:
        self.engine.close()

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Known replies first, then the engine's as they finish.

        Raises RuntimeError if it cannot write, or where too many requests fail.
        """
        wanted = list(requests)
        if len({request.id for request in wanted}) < len(wanted):
            raise ValueError("two requests have the same id")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found, asked = self.found, self.asked
        with closing(open_journal(self.path)) as database:
            self._register(database, wanted)
            try:
                missing = []
                for request, reply in self._known(database, wanted):
                    if reply:
                        self.found += 1
                        self._count(
                            reply, len(wanted) + found + asked, "in an earlier version: --retry-failed"
                        )
                        yield reply
                    else:
                        missing.append(request)
                if missing:
                    yield from self._ask(database, missing)
            finally:
                self.run.had(database, self.found - found, self.asked - asked)

    def published(self) -> None:
        """Say that the build is in the store: its failures stand, and `prune` keeps its replies with it."""
        self.run.published()

    def _register(self, database: sqlite3.Connection, wanted: list[Request]) -> None:
        self.run.wants(database, map(key, wanted))

    def _known(
        self, database: sqlite3.Connection, requests: list[Request]
    ) -> Iterator[tuple[Request, Reply | None]]:
        """Each request with its reply, if the journal has one that stands."""
        with told(self.path):
            settled = [] if self.retry_failed else database.execute(_SETTLED).fetchall()
        failures = {row[0]: row[1:] for row in settled}
        for start in range(0, len(requests), _LOOKUP):
            some = requests[start : start + _LOOKUP]
            keys = [key(request) for request in some]
            marks = ", ".join("?" * len(keys))
            with told(self.path):
                rows = database.execute(f"SELECT * FROM reply WHERE key IN ({marks})", keys).fetchall()
            found = {row[0]: row[1:] for row in rows}
            for request, one in zip(some, keys, strict=True):
                if one in found:
                    text, reason, prompt, completion, *cost = found[one]
                    yield request, Reply(request.id, text, reason, prompt, completion, None, *cost)
                elif one in failures:
                    error, prompt, seconds, load = failures[one]
                    yield request, Reply(request.id, "", "error", prompt, 0, error, 0, seconds, load)
                else:
                    yield request, None

    def _ask(self, database: sqlite3.Connection, requests: list[Request]) -> Iterator[Reply]:
        for other in self.others:
            other.close()
        keys = {request.id: key(request) for request in requests}
        total = self.found + self.asked + len(requests)
        writer = Writer(database, self.path, _store)
        try:
            # Closed at once where one failure is too many: nothing more is asked.
            with closing(generate_isolated(self.engine, requests)) as replies:  # type: ignore[type-var]
                for reply in replies:
                    writer.add((keys[reply.id], reply))
                    self.asked += 1
                    self._count(reply, total, "mend the cause and run again")
                    yield reply
        finally:
            writer.close()

    def _count(self, reply: Reply, total: int, mend: str) -> None:
        """Raise RuntimeError at the first failure that is one too many among `total` requests."""
        self.failed += reply.error is not None
        allowed = max(self.max_failures * total, self.max_failures > 0)
        if reply.error and self.failed > allowed:
            raise RuntimeError(
                f"{self.failed} of {total} requests failed, more than --max-failures {self.max_failures:g} "
                f"allows; the last one: {reply.error} ({mend}, or raise --max-failures; what was answered "
                "is kept)"
            )


_SETTLED = """
    SELECT DISTINCT failure.* FROM failure JOIN build ON published
    JOIN wanted ON wanted.build = build.name AND wanted.key = failure.key
"""


def _store(database: sqlite3.Connection, answered: list[tuple[bytes, Reply]]) -> None:
    replies, failures = [], []
    for one, reply in answered:
        if reply.error:
            failures.append((one, reply.error, reply.prompt_tokens, reply.seconds, reply.load_seconds, one))
        else:
            tokens = (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
            times = (reply.seconds, reply.load_seconds)
            replies.append((one, reply.text, reply.finish_reason, *tokens, *times))
    # Unless another build has got an answer meanwhile.
    unless = "WHERE NOT EXISTS (SELECT 1 FROM reply WHERE key = ?)"
    database.executemany(f"INSERT OR REPLACE INTO failure SELECT ?, ?, ?, ?, ? {unless}", failures)
    database.executemany(f"INSERT OR REPLACE INTO reply VALUES ({', '.join('?' * 8)})", replies)
    database.executemany("DELETE FROM failure WHERE key = ?", ((row[0],) for row in replies))


class Writer(Generic[T]):
    """Commits what it is given in batches, and from a thread of its own when no more comes."""

    def __init__(
        self,
        database: sqlite3.Connection,
        path: Path,
        store: Callable[[sqlite3.Connection, list[T]], None],
        batch: int = REPLIES,
    ) -> None:
        self.database = database
        self.path = path
        self.store = store
        self.batch = batch
        self.waiting: list[T] = []
        self.error: sqlite3.Error | None = None
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._tick, name="journal", daemon=True)
        self.thread.start()

    def add(self, item: T) -> None:
        with self.lock:
            self.waiting.append(item)
            if len(self.waiting) >= self.batch:
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
        if not self.waiting or self.error:
            return
        try:
            with self.database as database:
                self.store(database, self.waiting)
        except sqlite3.Error as error:  # told to the build's own thread, at its next answer
            self.error = error
        self.waiting = []

    def _check(self) -> None:
        if self.error:
            raise RuntimeError(f"{self.path}: the journal cannot be written: {self.error}")
