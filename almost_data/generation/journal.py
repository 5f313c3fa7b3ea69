"""Every reply kept on disk as it comes: a request that was answered is never sent to an engine again.

An SQLite file in WAL mode. Replies are committed every 64 or every second, whichever is first, and the
disk is waited for every second, so `kill -9` or a power cut costs a second of work at most. After a
changed filter, threshold or card every reply is still here, and no engine is started.

A request that failed is sent again by the next run, until a dataset with that failure in it is
published: then it has failed in every later version too, unless `retry_failed` is on.
"""

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from . import Generator, Model, Reply, Request, SharedMemory, answered
from .isolate import generate_isolated
from .journal_file import KEY_BYTES, AnswerCounts, JournalSession, open_journal

T = TypeVar("T")
log = logging.getLogger(__name__)
REPLIES = 64
SECONDS = 1.0
MAX_FAILURES = 0.01
"""Share of a build's requests that may fail."""
WINDOW = 100_000
"""Requests in memory: as many are looked up, and sent to the engine if they are missing, at a time."""


def key(request: Request) -> bytes:
    """Hash of all that decides a reply: prompt, model and revision, sampling, sample, the row's seed."""
    model = request.model
    prompt = _begin(request.prefix).copy()
    prompt.update(request.text.encode())
    parts: list[Any] = [model.id, model.revision, request.sampling, request.sample, request.seed]
    if request.messages:
        parts += [request.messages, request.template_options]
    return hashlib.sha256(prompt.digest() + msgspec.json.encode(parts)).digest()[:KEY_BYTES]


@lru_cache(64)
def _begin(prefix: str) -> "hashlib._Hash":
    """The hash of a prefix, to go on from: thousands of requests share it."""
    return hashlib.sha256(prefix.encode())


@dataclass(eq=False)
class JournaledGenerator:
    """A Generator that sends its engine only requests that the journal has no reply to.

    More failures than `max_failures` of the requests so far, which are counted by windows, end the run,
    standing failures of an earlier version included; one is always allowed, unless it is 0. With a `memory`
    the engine acquires it first.
    """

    engine: Generator
    session: JournalSession
    max_failures: float = MAX_FAILURES
    retry_failed: bool = False
    memory: SharedMemory | None = None
    counts: AnswerCounts = field(default_factory=AnswerCounts, init=False)
    failed: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)
    """Money for the replies that were not in the journal."""
    answered_as: dict[str, set[str]] = field(default_factory=dict, init=False)
    """Model -> the names by which servers answered that were asked for it, besides its own."""

    def __post_init__(self) -> None:
        self.name = self.engine.name

    @property
    def honours_seed(self) -> bool:
        return self.engine.honours_seed

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
        """Window by window, the journal's replies first, then the engine's as they finish. Reads as it goes.

        Raises RuntimeError if it cannot write, or where too many of the requests so far fail.
        """
        remaining = iter(requests)
        with open_journal(self.session.path) as database:
            while window := list(islice(remaining, WINDOW)):
                yield from self._answer(database, window)

    def _answer(self, database: sqlite3.Connection, requests: list[Request]) -> Iterator[Reply]:
        total = self.counts.from_journal + self.counts.computed + len(requests)
        keys = {request.id: key(request) for request in requests}
        if len(keys) < len(requests):
            raise ValueError("a request id occurs twice")
        answer_ids = self.session.register(database, "reply", keys.values())
        by_key: dict[bytes, list[Request]] = {}
        missing = {}
        for request in requests:
            if keys[request.id] in answer_ids:
                by_key.setdefault(keys[request.id], []).append(request)
            else:
                missing[request.id] = request
        for _, digest, *values in self.session.answers(database, "reply", answer_ids.values()):
            for request in by_key[digest]:
                yield self._from_journal(request, Reply(request.id, *values), total)
        for reply in self._standing_failures(database, missing, keys):
            yield self._from_journal(missing.pop(reply.id), reply, total)
        if missing:
            yield from self._compute(database, missing, keys, total)

    def _from_journal(self, request: Request, reply: Reply, total: int) -> Reply:
        self.counts.from_journal += 1
        self._note_name(request, reply)
        self._check_failures(reply, total, "in an earlier version: set run.retry_failed")
        return reply

    def _standing_failures(
        self, database: sqlite3.Connection, missing: dict[str, Request], keys: dict[str, bytes]
    ) -> list[Reply]:
        """The failures of published builds among the missing requests, which now are this build's too."""
        rows = [] if self.retry_failed else database.execute(_STANDING_FAILURES).fetchall()
        failures = {digest: values for _, digest, *values in rows}
        replies = [Reply(id, *failures[keys[id]]) for id in missing if keys[id] in failures]
        if replies:
            with database:
                self._store(database, [(keys[reply.id], reply) for reply in replies], "from_journal")
        return replies

    def _compute(
        self, database: sqlite3.Connection, requests: dict[str, Request], keys: dict[str, bytes], total: int
    ) -> Iterator[Reply]:
        """The engine's replies, each written to the journal before it is yielded or soon after."""
        if self.memory:
            self.memory.acquire(self.engine)
        with (
            closing(JournalWriter(database, self.session.path, self._store)) as writer,
            # Closed at once where one failure is too many: nothing more is generated.
            closing(generate_isolated(self.engine, list(requests.values()))) as replies,  # type: ignore[type-var]
        ):
            for reply in replies:
                writer.add((keys[reply.id], reply))
                self.counts.computed += 1
                self.spent += reply.cost
                for warning in self._note_name(requests[reply.id], reply):
                    log.warning("%s", warning)
                self._check_failures(reply, total, "fix the cause and run again")
                yield reply

    def _store(
        self, database: sqlite3.Connection, pairs: list[tuple[bytes, Reply]], origin: str = "computed"
    ) -> None:
        replies = [(digest, *_fields(reply)) for digest, reply in pairs if not reply.error]
        database.executemany(f"INSERT INTO reply VALUES (NULL{', ?' * 12})", replies)
        failures = [(self.session.build, digest, *_fields(reply)) for digest, reply in pairs if reply.error]
        database.executemany(f"INSERT OR REPLACE INTO failure VALUES (?{', ?' * 12})", failures)
        numbers = {"answered": len(replies), "failed": len(failures), origin: len(pairs)}
        self.session.count(database, **numbers)

    def _note_name(self, request: Request, reply: Reply) -> list[str]:
        """Keep the name by which a server answered; a warning where it is new, and may be another model's."""
        if reply.answered_as is None:
            return []
        names = self.answered_as.setdefault(request.model.id, set())
        if reply.answered_as in names:
            return []
        names.add(reply.answered_as)
        return answered.warnings({request.model.id: [reply.answered_as]})

    def _check_failures(self, reply: Reply, total: int, advice: str) -> None:
        """Raise RuntimeError at the first failure that is one too many among `total` requests."""
        if reply.error is None:
            return
        self.failed += 1
        if self.failed > max(self.max_failures * total, self.max_failures > 0):
            raise RuntimeError(
                f"{self.failed} of {total} requests failed, more than run.max_failures {self.max_failures:g} "
                f"allows; the last error: {reply.error} ({advice}, or raise run.max_failures; the journal "
                "keeps all replies so far)"
            )


_fields = attrgetter(*(field.name for field in fields(Reply) if field.name != "id"))
_STANDING_FAILURES = "SELECT failure.* FROM failure JOIN build ON build.name = failure.build WHERE published"


@dataclass(eq=False)
class JournalWriter(Generic[T]):
    """Commits items in batches, and from a thread of its own when a second passes without a full batch.

    A commit reaches the system, which outlives this process; the thread waits for the disk every second.
    """

    database: sqlite3.Connection
    path: Path
    store: Callable[[sqlite3.Connection, list[T]], None]
    batch: int = REPLIES

    def __post_init__(self) -> None:
        self.waiting: list[T] = []
        self.error: sqlite3.Error | OSError | None = None
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._commit_every_second, name="journal", daemon=True)
        self.thread.start()

    def add(self, item: T) -> None:
        with self.lock:
            self.waiting.append(item)
            if len(self.waiting) >= self.batch:
                self.commit()
        self._raise_error()

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        with self.lock:
            self.commit()
        self._sync()
        self._raise_error()

    def commit(self) -> None:
        """Write the waiting items in one transaction. The caller holds the lock."""
        if not self.waiting or self.error:
            return
        try:
            with self.database as database:
                self.store(database, self.waiting)
        except sqlite3.Error as error:  # raised in the build's own thread, at its next answer
            self.error = error
        self.waiting = []

    def _commit_every_second(self) -> None:
        while not self.done.wait(SECONDS):
            with self.lock:
                self.commit()
            self._sync()

    def _sync(self) -> None:
        """Wait until the disk has what was committed."""
        try:
            with self.path.with_name(f"{self.path.name}-wal").open("rb") as log:
                os.fsync(log.fileno())
        except OSError as error:
            self.error = error

    def _raise_error(self) -> None:
        if self.error:
            raise RuntimeError(f"{self.path}: the journal cannot be written: {self.error}")
