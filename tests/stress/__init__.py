"""Builds killed at chosen points and at random moments all end as if nothing had been.

After each kill: what is published is whole, and what the journal holds is never asked again. When the
same command then ends: the digests and the files are those of a build that nobody killed, each request
is answered once in the journal, and nothing was cleaned up by hand.
"""

import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from almost_data.errors import InputError
from almost_data.generation import journal, journal_file
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.crash import Done, Server

BUILD = ("build", "comparisons", "--engine", "fake", "--limit", "20")
REFS = ("queries@0.1.0", "responses@0.1.0", "comparisons@0.1.0")
TORN = "torn journal"
"""Killed at a reply, and then the journal's newest pages are lost, as by a power cut."""
ALL_POINTS = "new journal"
"""The point that a sweep visits at each pass: a journal is made only once."""
SLOW = 0.008
"""Seconds a reply, so that random moments fall on generation as often as on the rest."""


@dataclass(frozen=True)
class Clean:
    """A build that nobody killed."""

    digests: dict[str, str]
    files: set[str]
    keys: set[str]
    """Of the requests that it asked."""
    passes: dict[str, int]
    """Of each point."""
    seconds: float
    """Of the build, were its engine SLOW."""


def build_clean(server: Server, folder: Path) -> Clean:
    folder.mkdir(parents=True, exist_ok=True)
    root, log, passes = folder / "build", folder / "log", folder / "passes"
    start = time.monotonic()
    done = server.run(*BUILD, "--root", str(root), log=str(log), counts=str(passes))
    seconds = time.monotonic() - start
    assert done.code == 0, done.err
    keys = log.read_text().split()
    assert len(keys) == len(set(keys))
    counts = msgspec.json.decode(passes.read_bytes())
    return Clean(digests(root), files(root), set(keys), counts, seconds + SLOW * len(keys))


def digests(root: Path) -> dict[str, str]:
    store = Store(root)
    return {ref: store.manifest(ref).digest for ref in store.refs()}


def files(root: Path) -> set[str]:
    """What is in the store; SQLite clears its own two files when the journal is opened next."""
    names = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    return names - {"journal.sqlite-shm", "journal.sqlite-wal"}


def journaled(root: Path) -> set[str]:
    """The keys of the replies on disk, read from a copy: to open a journal is to change it."""
    with _copy(root) as path, closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'reply'").fetchone()[0]
        rows = database.execute("SELECT key FROM reply").fetchall() if tables else []
    return {key.hex() for (key,) in rows}


class _copy:
    """The journal of a store, copied aside."""

    def __init__(self, root: Path) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.sqlite"
        for file in root.glob("journal.sqlite*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, self.folder.name)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()


@dataclass
class Watched:
    """One store in which builds are killed, and all that is wrong with it."""

    server: Server
    clean: Clean
    folder: Path
    complaints: list[str] = field(default_factory=list)
    kills: int = 0
    journaled_keys: set[str] = field(default_factory=set)
    """The keys in the journal."""
    ended: bool = False
    """Whether the last build ended with exit code 0."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.root, self.log = self.folder / "build", self.folder / "log"
        self.log.touch()

    def build(self, delay: float | None = None, **how: Any) -> Done:
        """Run the build, kill it after `delay` seconds, and look at what is left."""
        before = self.log.stat().st_size
        run = self.server.start(*BUILD, "--root", str(self.root), log=str(self.log), **how)
        if delay is not None:
            time.sleep(delay)
            run.kill()
        done = run.wait()
        killed = done.code == -9
        self.kills += killed
        self.ended = done.code == 0
        requested = self.log.read_text()[before:].split()
        keys = journaled(self.root)
        self._check(not self.journaled_keys & set(requested), "a journaled reply was asked again")
        self._check(len(requested) == len(set(requested)), "a reply was asked twice in one run")
        self._check(self.journaled_keys <= keys, "a journaled reply is gone")
        self._check(len(set(requested) - keys) <= (journal.REPLIES if killed else 0), "replies were lost")
        self.journaled_keys = keys
        if killed:
            self._check_published()
        else:
            self._check(done.code == 0, f"exit code {done.code}: {done.err.strip()}")
            self._check_end()
        return done

    def tear(self, rng: random.Random) -> None:
        """Lose the newest part of the journal."""
        for file in self.root.glob("journal.sqlite-wal"):
            with file.open("r+b") as opened:
                opened.truncate(rng.randrange(file.stat().st_size + 1))
        self.journaled_keys = journaled(self.root)

    def _check(self, good: bool, complaint: str) -> None:
        if not good:
            self.complaints.append(complaint)

    def _check_published(self) -> None:
        """Whatever is in the store is whole, and every build's requests add up."""
        store = Store(self.root)
        self.complaints += [f"{ref}: {wrong}" for ref in store.refs() for wrong in verify(store, ref)]
        self._check(digests(self.root).items() <= self.clean.digests.items(), "another digest")
        with _copy(self.root) as path:
            try:
                for status in journal_file.status(path):
                    self._check(
                        min(status.answered, status.failed, status.pending) >= 0, f"{status} does not add up"
                    )
            except (InputError, RuntimeError) as error:
                self.complaints.append(f"the journal cannot be used: {error.args[0].rpartition('/')[2]}")

    def _check_end(self) -> None:
        self._check_published()
        self._check(digests(self.root) == self.clean.digests, "the digests differ")
        differing = files(self.root) ^ self.clean.files
        self._check(not differing, f"files left over or missing: {', '.join(sorted(differing))}")
        self._check(self.journaled_keys == self.clean.keys, "the journal has other requests")
        if self.ended:
            with _copy(self.root) as path:
                self._check(
                    all(not status.failed for status in journal_file.status(path)), "failures in the journal"
                )


@dataclass
class Outcome:
    """What came of the kills at one point."""

    point: str
    passes: int | None = None
    kills: int = 0
    went_on: int = 0
    """Kills in stores where the same command then came to its end."""
    good: int = 0
    """Kills in stores where all else held too."""
    complaints: Counter[str] = field(default_factory=Counter)

    def add(self, watched: Watched) -> None:
        self.kills += watched.kills
        self.went_on += watched.kills if watched.ended else 0
        self.good += 0 if watched.complaints else watched.kills
        self.complaints.update(watched.complaints)


def sweep(server: Server, clean: Clean, folder: Path, kills: int, rng: random.Random) -> Iterator[Outcome]:
    """Kill builds at every point, at some of its passes, each in a store of its own; then build again."""
    passes = clean.passes | {TORN: clean.passes["reply"]}
    each = max(1, kills // len(passes))
    for number, (point, many) in enumerate(sorted(passes.items())):
        outcome = Outcome(point, many)
        kill_count = many if point == ALL_POINTS else min(each, many)
        for at in sorted(rng.sample(range(1, many + 1), kill_count)):
            watched = Watched(server, clean, folder / f"{number}-{at}")
            watched.build(point="reply" if point == TORN else point, at=at)
            if point == TORN:
                watched.tear(rng)
            if (
                watched.kills
            ):  # else the point was not reached: the writer's clock decides how often it commits
                watched.build()
            outcome.add(watched)
        yield outcome


def random_moments(server: Server, clean: Clean, folder: Path, kills: int, rng: random.Random) -> Outcome:
    """Kill slow builds at random moments, again and again in one store until one ends; then in the next."""
    outcome = Outcome("random moments")
    for number in count():
        if outcome.kills >= kills:
            return outcome
        watched = Watched(server, clean, folder / f"random-{number}")
        while watched.kills + outcome.kills < kills:
            if watched.build(delay=rng.uniform(0, clean.seconds), slow=SLOW).code != -9:
                break
        else:
            watched.build()
        outcome.add(watched)
    raise AssertionError


def stress(wanted_kills: int, rng: random.Random, console: Console) -> int:
    """Kill builds, and print what came of it; returns how many kills left a trace or are missing."""
    table = Table("point", "passes", "kills", "went on", "same digests, files and replies", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Server(Path(name) / "runs") as server:
        folder = Path(name)
        clean = build_clean(server, folder / "clean")
        outcomes = list(sweep(server, clean, folder, wanted_kills * 2 // 3, rng))
        remaining = max(wanted_kills - sum(outcome.kills for outcome in outcomes), wanted_kills // 4)
        outcomes.append(random_moments(server, clean, folder, remaining, rng))
    for outcome in outcomes:
        numbers = (outcome.passes or "", outcome.kills, outcome.went_on, outcome.good)
        table.add_row(outcome.point, *map(str, numbers), style="" if outcome.good == outcome.kills else "red")
    console.print(table)
    for outcome in outcomes:
        for complaint, times in outcome.complaints.items():
            console.print(f"{outcome.point}: {complaint} ({times})", markup=False, soft_wrap=True)
    kills, good = sum(outcome.kills for outcome in outcomes), sum(outcome.good for outcome in outcomes)
    console.print(f"{kills} kills in {time.monotonic() - start:.0f} s, {good} of them without a trace")
    return max(0, wanted_kills - kills) + kills - good
