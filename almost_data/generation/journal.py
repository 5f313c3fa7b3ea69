"""Every reply kept on disk as it comes: what was answered once is never asked again.

An SQLite file in WAL mode. Replies are committed every 64 or every second, whichever is first, so
`kill -9` or a power cut costs a second of work at most. Failed requests are not kept: they are asked
again. A changed filter, threshold or card finds every reply here, and no engine is started.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError
from . import Generator, Model, Reply, Request

REPLIES = 64
SECONDS = 1.0
_LOOKUP = 500
"""Keys asked for in one query."""


def key(request: Request) -> bytes:
    """What decides a reply: prompt, model and revision, sampling, sample, and the row's seed or none."""
    model = request.model
    parts = [request.prompt, model.id, model.revision, request.sampling, request.sample, request.seed]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


class Journaled:
    """A Generator that asks its engine only what the journal does not know."""

    def __init__(self, engine: Generator, path: Path) -> None:
        self.engine = engine
        self.name = engine.name
        self.honours_seed = engine.honours_seed
        self.path = path
        self.found = 0
        """Replies that came from the journal."""
        self.asked = 0
        """Replies that came from the engine."""

    def resolve(self, model: Model) -> Model:
        return self.engine.resolve(model)

    def settings(self) -> dict[str, Any]:
        return self.engine.settings()

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Known replies first, then the engine's as they finish. Raises RuntimeError if it cannot write."""
        wanted = list(requests)
        if len({request.id for request in wanted}) < len(wanted):
            raise ValueError("two requests have the same id")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_open(self.path)) as database:
            missing = []
            for request, reply in _known(database, wanted):
                if reply:
                    self.found += 1
                    yield reply
                else:
                    missing.append(request)
            if missing:
                yield from self._ask(database, missing)

    def _ask(self, database: sqlite3.Connection, requests: list[Request]) -> Iterator[Reply]:
        keys = {request.id: key(request) for request in requests}
        writer = _Writer(database, self.path)
        try:
            for reply in self.engine.generate(requests):
                if not reply.error:
                    writer.add(keys[reply.id], reply)
                self.asked += 1
                yield reply
        finally:
            writer.close()


class _Writer:
    """Commits what it is given in batches, and from a thread of its own when no more comes."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self.database = database
        self.path = path
        self.rows: list[tuple[Any, ...]] = []
        self.error: sqlite3.Error | None = None
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._tick, name="journal", daemon=True)
        self.thread.start()

    def add(self, key: bytes, reply: Reply) -> None:
        with self.lock:
            self.rows.append(
                (key, reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens)
            )
            if len(self.rows) >= REPLIES:
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
        if not self.rows or self.error:
            return
        try:
            with self.database:
                self.database.executemany("INSERT OR REPLACE INTO reply VALUES (?, ?, ?, ?, ?)", self.rows)
        except sqlite3.Error as error:  # told to the build's own thread, at its next reply
            self.error = error
        self.rows = []

    def _check(self) -> None:
        if self.error:
            raise RuntimeError(f"{self.path}: the journal cannot be written: {self.error}")


def _open(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, timeout=60, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS reply (key BLOB PRIMARY KEY, text TEXT, finish_reason TEXT, "
            "prompt_tokens INTEGER, completion_tokens INTEGER) WITHOUT ROWID"
        )
    except sqlite3.OperationalError as error:  # disk full, no right to write
        raise RuntimeError(f"{path}: the journal cannot be written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: cannot be used as a journal ({error}): move it away") from None
    return database


def _known(database: sqlite3.Connection, requests: list[Request]) -> Iterator[tuple[Request, Reply | None]]:
    """Each request with its reply, if the journal has one."""
    for start in range(0, len(requests), _LOOKUP):
        some = requests[start : start + _LOOKUP]
        keys = [key(request) for request in some]
        marks = ", ".join("?" * len(keys))
        try:
            rows = database.execute(f"SELECT * FROM reply WHERE key IN ({marks})", keys).fetchall()
        except sqlite3.DatabaseError as error:
            raise RuntimeError(f"the journal cannot be read: {error}") from None
        found = {row[0]: row[1:] for row in rows}
        for request, one in zip(some, keys, strict=True):
            yield request, Reply(request.id, *found[one]) if one in found else None
