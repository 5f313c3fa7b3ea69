"""Commands in a store that has grown: many versions, and a journal of many replies.

python -m tests.bench growth
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from almost_data.datasets.manifest import encode_manifest, seal
from almost_data.generation import journal_file
from almost_data.generation.journal_file import JournalSession
from almost_data.store.store import Store
from tests.bench import Result

VERSIONS = 2_000
REPLIES = 5_000_000
NAMES = ("queries", "responses", "comparisons")
TEXT = "A reply as long as replies are. " * 12
BUILD = "responses@1.0.0"


def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        return [*_of_versions(Path(name) / "versions"), *_of_journal(Path(name) / "journal")]


def _of_versions(root: Path) -> list[Result]:
    command("build", "comparisons", "--engine", "fake", "--limit", "20", "--version", "0.0.0", root=root)
    store = Store(root)
    for number in range(1, VERSIONS // len(NAMES) + 1):
        for name in NAMES:
            add_version(store, name, f"0.0.{number}")
    verbs = (["list"], ["show", "comparisons"], ["lineage", "comparisons"])
    label = f"in a store of {len(store.refs()):,} versions"
    return [
        Result(f"{verb[0]} {label}", "s", command(*verb, root=root), None, "under 1 s, start included")
        for verb in verbs
    ]


def add_version(store: Store, name: str, version: str) -> None:
    """A copy of version 0.0.0 of a dataset, made from the parents of its version."""
    first = store.manifest(f"{name}@0.0.0")
    place = store.path(f"{name}@{version}")
    shutil.copytree(store.path(first.ref), place, copy_function=os.link)
    parents = []
    for parent in first.parents:
        ref = parent.ref.replace("0.0.0", version)
        parents.append(msgspec.structs.replace(parent, ref=ref, manifest=store.manifest(ref).sha256))
    manifest = msgspec.structs.replace(first, version=version, parents=parents)
    (place / "manifest.json").unlink()
    sealed = msgspec.structs.replace(manifest, sha256=seal(manifest))
    (place / "manifest.json").write_bytes(encode_manifest(sealed))


def _of_journal(root: Path) -> list[Result]:
    root.mkdir()
    make_journal(Store(root).journal, REPLIES)
    start = time.perf_counter()
    with journal_file.open_journal(Store(root).journal):
        opened = time.perf_counter() - start
    label = f"a journal of {REPLIES:,} replies"
    return [
        Result(f"opening {label}", "s", opened, None, "under 2 s"),
        Result(f"journal with {label}", "s", command("journal", root=root), None, "under 5 s"),
        Result(f"list with {label}", "s", command("list", root=root), None, "under 1 s"),
    ]


def make_journal(path: Path, replies: int) -> None:
    """A journal with the replies that a published build needed."""
    keys = [os.urandom(journal_file.KEY_BYTES) for _ in range(replies)]
    with journal_file.open_journal(path) as database, database:
        values = "?, 1, 1, ?, ?, 0, 0, ?"
        database.execute(f"INSERT INTO build VALUES ({values})", (BUILD, replies, replies, replies))
        database.execute("INSERT INTO need VALUES (?, 1, ?)", (BUILD, b"".join(keys)))
        values = "NULL, ?, ?, 'stop', 1500, 90, NULL, NULL, 0, 0.1, 0.0, 0.0, NULL"
        database.executemany(f"INSERT INTO reply VALUES ({values})", ((key, TEXT) for key in keys))
        JournalSession(path, "another@1.0.0").register(database, "reply", ())


def command(*arguments: str, root: Path) -> float:
    """Seconds of a command in a process of its own."""
    start = time.perf_counter()
    line = [sys.executable, "-m", "almost_data", "--root", str(root), *arguments]
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - start
