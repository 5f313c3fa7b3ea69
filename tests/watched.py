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
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from almost_data.errors import InputError
from almost_data.generation import journal, journal_file
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.crash import Done, Server

BUILD = ("build", "comparisons", "--engine", "fake", "--limit", "20")
REFS = ("queries@0.1.0", "responses@0.1.0", "comparisons@0.1.0")
TORN = "torn journal"
"""Killed at a reply, and then the journal's newest pages are lost, as by a power cut."""
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
    server.run("list", "--root", str(root))  # which waits until the server has imported everything
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
        with _copy(self.root) as path:
            failed = any(status.failed for status in journal_file.status(path))
        self._check(not failed, "failures in the journal")


def random_moments(
    server: Server, clean: Clean, folder: Path, kills: int, rng: random.Random
) -> Counter[str]:
    """What is wrong after so many kills of slow builds, again and again in one store until one ends, then in
    the next."""
    complaints, done = Counter[str](), 0
    for number in count():
        if done >= kills:
            return complaints
        watched = Watched(server, clean, folder / f"random-{number}")
        while watched.kills + done < kills:
            if watched.build(delay=rng.uniform(0, clean.seconds), slow=SLOW).code != -9:
                break
        else:
            watched.build()
        complaints.update(watched.complaints)
        done += watched.kills
    raise AssertionError
