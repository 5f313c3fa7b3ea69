"""Run the command line and kill it at a pass of a chosen point, or under a chosen fault.

A point is a step of the package, `before` and `after` it, or `half` of it where a file is half written then:

    registration, added, commit, published      of the journal; a reply or a score is added
    CREATE, PRAGMA, INSERT, COMMIT, ...         of SQLite, before each statement that begins so;
    new journal                                 before each statement up to the first INSERT
    reply                                       of the engine, when it is asked for one
    figures, card, shard, file, fsync, rename   of publishing
    replace, rmtree                             of one file, and of what is not needed any more
    request                                     to the Hub

Runs go through a `Server`: one process that has imported everything, and forks for each run.
"""

import contextlib
import datetime
import importlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import close_session, get_session

from almost_data.cards import card, figures
from almost_data.cli import app as cli
from almost_data.cli.build import app as build_app
from almost_data.generation import Reply, Request, journal, journal_file
from almost_data.generation.fake import FakeEngine
from almost_data.store import publish, rows, store
from tests.blank_cards import leave_cards_blank

HERE = Path(__file__).resolve().parents[1]
HANGS = 600.0
PATIENCE = 20
"""A run hangs, and is killed, after HANGS seconds, or PATIENCE times the longest run before it if longer."""


@dataclass(frozen=True)
class Job:
    """One run of the command line, and what goes wrong in it."""

    arguments: list[str]
    point: str = ""
    at: int = 0
    """The pass of `point` at which the process dies."""
    slow: float = 0.0
    """Seconds that the fake engine takes for a reply."""
    log: str = ""
    """File to add the key of each request to, when the engine is asked."""
    counts: str = ""
    """File for the passes of each point, as JSON; written by a run that ends."""
    fail: str = ""
    """Requests whose key begins with one of these hexadecimal digits raise OSError in the fake engine."""
    file_bytes: int = 0
    """No file may grow beyond this, as on a full disk."""
    back: bool = False
    """The clock goes back an hour at every look."""


@dataclass
class Trap:
    """Counts the passes of each point, and springs at one of them."""

    point: str
    at: int
    counts: Counter[str] = field(default_factory=Counter)

    def passed(self, point: str, first: Callable[[], object] | None = None) -> None:
        """Count a pass. `first` is what the process still does where it dies."""
        self.counts[point] += 1
        if (point, self.counts[point]) == (self.point, self.at):
            if first:
                first()
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, point: str, half: Callable[..., object] | None = None) -> None:
        """Make points `before` and `after` of a function, and `half` of it where that can be done."""
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.passed(f"before {point}")
            if half:
                self.passed(f"half {point}", lambda: half(real, *args, **kwargs))
            result = real(*args, **kwargs)
            self.passed(f"after {point}")
            return result

        setattr(owner, name, wrapped)

    def set(self) -> None:
        """Put the points into the package."""
        self.around(journal_file.JournalSession, "register", "registration")
        self.around(journal.JournalWriter, "add", "added")
        self.around(journal.JournalWriter, "commit", "commit")
        self.around(journal_file.JournalSession, "mark_published", "published")
        self.around(figures, "as_files", "figures")
        self.around(card, "render", "card")
        self.around(rows.Shards, "write", "shard", _half_a_shard)
        self.around(publish, "write_file", "file", _half_a_file)
        self.around(store, "sync", "fsync")
        self.around(os, "rename", "rename")
        self.around(os, "replace", "replace")
        self.around(shutil, "rmtree", "rmtree")
        self.around(_session_class(), "send", "request")
        connect = sqlite3.connect

        def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            database = connect(*args, **kwargs)
            database.set_trace_callback(self.statement)
            return database

        sqlite3.connect = traced  # type: ignore[assignment]

    def statement(self, sql: str) -> None:
        self.passed(sql.split(maxsplit=1)[0])
        if not self.counts["INSERT"]:
            self.passed("new journal")


def _half_a_shard(write: Callable[..., object], shards: rows.Shards, frame: object) -> None:
    write(shards, frame)
    assert shards.writer
    shards.writer.close()
    os.truncate(shards.files[-1], shards.files[-1].stat().st_size // 2)


def _half_a_file(write: Callable[..., object], path: Path, content: bytes) -> None:
    write(path, content[: len(content) // 2])


def run(job: Job) -> None:
    """Run the command line in this process, which is spoilt by that: it ends here or soon after."""
    trap = Trap(job.point, job.at)
    trap.set()
    _watch(job, trap)
    if job.back:
        _turn_back()
    leave_cards_blank()
    if job.file_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_bytes, job.file_bytes))
    sys.argv = ["almost_data", *job.arguments]
    cli.main()
    if job.counts:
        Path(job.counts).write_text(json.dumps(trap.counts))


def _watch(job: Job, trap: Trap) -> None:
    """Let the fake engine say what it is asked, and take its time."""
    real = FakeEngine.generate
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if job.log else None

    def generate(self: FakeEngine, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            trap.passed("reply")
            key = journal.key(request).hex()
            if log is not None:
                os.write(log, f"{key}\n".encode())
            time.sleep(job.slow)
            if key[0] in job.fail:
                raise OSError("no answer")
            yield from real(self, [request])

    FakeEngine.generate = generate  # type: ignore[method-assign]


def _turn_back() -> None:
    looks = Counter[str]()
    now = time.time

    def earlier() -> float:
        looks["all"] += 1
        return now() - 3600 * looks["all"]

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(earlier(), tz)

    time.time = earlier
    datetime.datetime = Clock  # type: ignore[misc]


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    """Exit code; that of a signal is negative."""
    out: str
    err: str


class Server:
    """Runs of the command line, each a process of its own, without the second that imports take."""

    def __init__(self, folder: Path, module: str = "tests.crash") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.runs = 0
        pipe = subprocess.PIPE
        # One thread of BLAS: what is forked should have no more threads than it must.
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=HERE,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=pipe,
            stdout=pipe,
            text=True,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def start(self, *arguments: str, **how: Any) -> "Run":
        """Start a run; the keywords are those of `Job`."""
        self.runs += 1
        place = self.folder / f"run-{self.runs}"
        return Run(self, self.ask("start", str(place), asdict(Job(list(arguments), **how))), place)

    def run(self, *arguments: str, **how: Any) -> Done:
        return self.start(*arguments, **how).wait()

    def ask(self, *question: Any) -> int:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@dataclass(frozen=True)
class Run:
    """A run on its way."""

    server: Server
    pid: int
    place: Path

    def kill(self) -> None:
        """`kill -9`; of a run that has ended, nothing."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Done:
        code = self.server.ask("wait", self.pid)
        out, err = (Path(f"{self.place}.{name}").read_text() for name in ("out", "err"))
        return Done(code, out, err)


def serve() -> None:
    """Read one question a line, answer with one number a line."""
    _warm()
    starts: dict[int, float] = {}
    longest = 0.0
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        if verb == "start":
            answer = _start(*rest)
            starts[answer] = time.monotonic()
        else:
            start = starts.pop(rest[0])
            answer = _wait(*rest, start + max(HANGS, PATIENCE * longest))
            longest = max(longest, time.monotonic() - start)
        print(answer, flush=True)


IMPORTED_LATE = (
    *("charset_normalizer", "pandas", "pyarrow.parquet", "rapidfuzz.process", "scipy.sparse.csgraph"),
    *("almost_data.cli.progress", "almost_data.cli.show", "almost_data.run.build"),
)
"""What runs import when they need it."""


def _warm() -> None:
    """Import what runs import, and compile the cards. Polars is not used here: it would start its threads."""
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    _session_class()
    build_app.resolved_commands()
    templates = card._environment(card.FOLDERS)
    for name in templates.list_templates():
        templates.get_template(name)


@cache
def _session_class() -> Any:
    """Of what sends requests to the Hub: to make one takes as long as a small build."""
    try:
        return type(get_session())
    finally:
        close_session()


def _start(place: str, how: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for handle, name in enumerate((os.devnull, f"{place}.out", f"{place}.err")):
            opened = os.open(name, os.O_RDWR | os.O_CREAT)
            os.dup2(opened, handle)
            os.close(opened)
        run(Job(**how))
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def _wait(pid: int, end: float) -> int:
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


if __name__ == "__main__":
    serve()
