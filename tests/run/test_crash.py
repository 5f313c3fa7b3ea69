"""Builds that are killed, starved, raced or lied to end as if nothing had been."""

import random
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest

from almost_data.generation import CannotStart, Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, presets
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.crash import Done, Server
from tests.settings import fake
from tests.waiting import until
from tests.watched import (
    BUILD,
    REFS,
    SLOW,
    TORN,
    Clean,
    Watched,
    build_clean,
    digests,
    files,
    journaled,
    random_moments,
)

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def clean(crash_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return build_clean(crash_server, tmp_path_factory.mktemp("clean") / "one")


def check_clean(root: Path, clean: Clean) -> None:
    assert digests(root) == clean.digests
    assert [wrong for ref in REFS for wrong in verify(Store(root), ref)] == []
    assert files(root) == clean.files
    assert journaled(root) == clean.keys


# Killed.


@pytest.mark.parametrize(
    ("point", "share"),
    [
        ("before registration", 1.0),
        ("reply", 0.5),
        ("before commit", 0.5),
        ("INSERT", 0.9),
        ("COMMIT", 0.5),
        ("after commit", 0.5),
        (TORN, 0.7),
        ("after card", 0.0),
        ("half shard", 0.5),
        ("half file", 1.0),
        ("after fsync", 0.6),
        ("before rename", 0.5),
        ("after rename", 0.5),
        ("before published", 1.0),
    ],
)
def test_a_killed_build_goes_on_as_if_nothing_had_been(
    crash_server: Server, clean: Clean, tmp_path: Path, point: str, share: float
) -> None:
    """Killed once, at that share of a point's passes."""
    name = "reply" if point == TORN else point
    watched = Watched(crash_server, clean, tmp_path / "one")
    watched.build(point=name, at=max(1, round(share * clean.passes[name])))
    assert watched.kills == 1
    if point == TORN:
        watched.tear(random.Random(2))
    watched.build()
    assert watched.complaints == []


def test_a_journal_is_made_whole_or_not_at_all(crash_server: Server, clean: Clean, tmp_path: Path) -> None:
    for at in range(1, clean.passes["new journal"] + 1):
        watched = Watched(crash_server, clean, tmp_path / str(at))
        watched.build(point="new journal", at=at)
        assert watched.kills == 1
        assert watched.complaints == []


def test_builds_killed_again_and_again_end(crash_server: Server, clean: Clean, tmp_path: Path) -> None:
    assert random_moments(crash_server, clean, tmp_path, 8, random.Random(5)) == {}


# An engine that fails.


class Broken(FakeEngine):
    """The fake engine, dying at some requests, and saying what it was asked."""

    def __init__(self, poison: Iterable[str] = (), error: type[Exception] = OSError) -> None:
        self.poison, self.error = set(poison), error
        self.recorded: list[str] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            if request.id in self.poison:
                raise self.error(f"no answer to {request.id}")
            self.recorded.append(request.id)
            yield from super().generate([request])


@pytest.fixture
def store(crash_server: Server, tmp_path: Path) -> Store:
    """A store with queries."""
    done = crash_server.run("build", "queries", *BUILD[2:], "--root", str(tmp_path / "build"))
    assert done.code == 0, done.err
    return Store(tmp_path / "build")


@pytest.fixture(scope="module")
def ids(crash_server: Server, clean: Clean, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The requests of responses, in order."""
    run = responses(Store(tmp_path_factory.mktemp("ids")), engine := Broken())
    run.build("queries")
    engine.recorded.clear()
    run.build("responses")
    return engine.recorded


def responses(
    store: Store, engine: FakeEngine, version: str = "0.1.0", share: float = 0.01, retry: bool = False
) -> build.BuildRun:
    preset = fake(presets.load("tiny", limit=20))
    sources = {} if version == "0.1.0" else {"queries": REFS[0]}
    return build.BuildRun(store, version, preset, engine, sources, max_failures=share, retry_failed=retry)


@pytest.mark.parametrize("row", [0, 41, 99])
def test_a_failed_row_is_in_the_dataset_and_stands_until_told_otherwise(
    store: Store, clean: Clean, ids: list[str], row: int
) -> None:
    bad = ids[row]
    (_, step) = responses(store, Broken({bad})).build("responses")
    assert verify(store, REFS[1]) == []
    entry = step.manifest.ledger[0]
    assert (entry.n_in, entry.kept, entry.failed) == (100, 99, 1)
    failed = store.scan(REFS[1], "rejected").filter(pl.col("reason") == "failed").collect()
    assert failed.select("reply_id", "row", "error").rows() == [(bad, row, f"OSError: no answer to {bad}")]
    # Another version asks nothing: the failure stands.
    (_, step) = responses(store, engine := Broken(), "0.2.0").build("responses")
    assert (engine.recorded, step.manifest.digest) == ([], store.manifest(REFS[1]).digest)
    # Told to, it asks what failed and nothing else, and then nobody need ask again.
    (_, step) = responses(store, engine := Broken(), "0.3.0", retry=True).build("responses")
    assert (engine.recorded, step.manifest.digest) == ([bad], clean.digests[REFS[1]])
    (_, step) = responses(store, engine := Broken(), "0.4.0").build("responses")
    assert (engine.recorded, step.manifest.digest) == ([], clean.digests[REFS[1]])


def test_too_many_failures_stop_the_build_and_mended_it_goes_on(
    store: Store, clean: Clean, ids: list[str]
) -> None:
    poison = {ids[10], ids[30], ids[70]}
    stopped = rf"more than run\.max_failures 0\.01 allows; .*OSError: no answer to {re.escape(ids[30])}"
    with pytest.raises(RuntimeError, match=stopped):
        responses(store, engine := Broken(poison)).build("responses")
    assert not store.has(REFS[1])
    responses(store, mended := Broken()).build("responses")
    assert set(mended.recorded) == set(ids) - set(engine.recorded)
    assert store.manifest(REFS[1]).digest == clean.digests[REFS[1]]
    # As many as that are no reason to stop where they are allowed.
    (_, step) = responses(Store(store.root.with_name("other")), Broken(poison), share=0.03).build("responses")
    assert step.manifest.ledger[0].failed == 3


def test_an_engine_gone_midway_costs_only_what_it_had_not_answered(
    store: Store, clean: Clean, ids: list[str]
) -> None:
    with pytest.raises(RuntimeError, match="no answer"):
        responses(store, broken := Broken({ids[60]}, CannotStart)).build("responses")
    responses(store, back := Broken()).build("responses")
    assert (broken.recorded, back.recorded) == (ids[:60], ids[60:])
    assert store.manifest(REFS[1]).digest == clean.digests[REFS[1]]


def test_failures_stand_even_if_the_build_was_killed_just_after_publishing(
    crash_server: Server, tmp_path: Path
) -> None:
    root = ("--root", str(tmp_path / "build"))
    how = ("--max-failures", "1", *root)
    assert crash_server.run(*BUILD, *how, fail="0", point="before published", at=2).code == -9
    assert crash_server.run(*BUILD, *how, fail="0").code == 0
    again = ("build", "responses", *BUILD[2:], "--version", "0.2.0", "--from", REFS[0], *how)
    log = tmp_path / "log"
    assert crash_server.run(*again, log=str(log)).code == 0
    assert log.read_text() == ""


# A full disk.


def check_full(done: Done, root: Path) -> None:
    """One line, and nothing half published."""
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert done.err.startswith("almost-data: ")
    store = Store(root)
    assert [wrong for ref in store.refs() for wrong in verify(store, ref)] == []
    assert {f"{place.parent.name}@{place.name}" for place in root.glob("[a-z]*/*")} == set(store.refs())
    assert list(root.glob(".staging/*")) == []


@pytest.mark.parametrize("size", [1_000, 20_000, 50_000, 80_000])
def test_a_full_disk_stops_the_journal_and_nothing_else(
    crash_server: Server, clean: Clean, tmp_path: Path, size: int
) -> None:
    root = tmp_path / "build"
    check_full(crash_server.run(*BUILD, "--root", str(root), file_bytes=size), root)
    assert crash_server.run(*BUILD, "--root", str(root)).code == 0
    check_clean(root, clean)


def test_a_full_disk_while_publishing_leaves_nothing(
    crash_server: Server, clean: Clean, tmp_path: Path
) -> None:
    root = tmp_path / "build"
    assert crash_server.run("build", "responses", *BUILD[2:], "--root", str(root)).code == 0
    for size in (100, 4_000, 8_000):
        check_full(crash_server.run(*BUILD, "--root", str(root), file_bytes=size), root)
        assert Store(root).refs() == sorted(REFS[:2])
    assert crash_server.run(*BUILD, "--root", str(root)).code == 0
    check_clean(root, clean)


# Two at once.


def wait_for(file: Path) -> None:
    until(lambda: file.is_file() and file.stat().st_size, f"{file.name} is there")


def test_a_second_build_of_the_same_dataset_says_so(
    crash_server: Server, clean: Clean, tmp_path: Path
) -> None:
    root, log = tmp_path / "build", tmp_path / "log"
    first = crash_server.start(*BUILD, "--root", str(root), slow=SLOW, log=str(log))
    wait_for(log)
    second = crash_server.run(*BUILD, "--root", str(root), slow=SLOW, log=str(log))
    assert (second.code, second.err.count("\n")) == (2, 1)
    assert "is in use by another process, which builds it or from it: wait for it" in second.err
    assert first.wait().code == 0
    check_clean(root, clean)
    assert len(log.read_text().split()) == len(clean.keys)


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.9])
def test_two_builds_at_any_distance_never_corrupt_the_store(
    crash_server: Server, clean: Clean, tmp_path: Path, delay: float
) -> None:
    root = tmp_path / "build"
    first = crash_server.start(*BUILD, "--root", str(root), slow=0.003)
    time.sleep(delay)
    ends = [run.wait() for run in (crash_server.start(*BUILD, "--root", str(root), slow=0.003), first)]
    for done in ends:
        assert done.code == 0 or (done.code == 2 and "by another process" in done.err), done.err
    assert crash_server.run(*BUILD, "--root", str(root)).code == 0
    check_clean(root, clean)


@pytest.mark.parametrize("new", [False, True])
def test_versions_built_at_once_share_one_journal(
    crash_server: Server, clean: Clean, tmp_path: Path, new: bool
) -> None:
    """The same whether the first of them has made the journal before the others come, or all want to."""
    versions = ("0.1.0", "0.2.0", "0.3.0")
    for number in range(2):
        root, log = tmp_path / str(number), tmp_path / f"log-{number}"
        runs = []
        for version in versions:
            how = ("--version", version, "--root", str(root))
            runs.append(crash_server.start(*BUILD, *how, slow=0.002, log=str(log)))
            if not new:
                wait_for(log)
        ends = [run.wait() for run in runs]
        assert [(done.code, done.err) for done in ends] == [(0, "")] * 3
        assert list(digests(root).values()) == [clean.digests[ref] for ref in sorted(REFS) for _ in versions]
        assert journaled(root) == clean.keys


# A clock that goes back.


def test_a_clock_that_jumps_back_changes_nothing(crash_server: Server, clean: Clean, tmp_path: Path) -> None:
    watched = Watched(crash_server, clean, tmp_path / "one")
    watched.build(point="reply", at=100)
    watched.build(back=True)
    assert (watched.kills, watched.complaints) == (1, [])
    store = Store(watched.root)
    created = [store.manifest(ref).created for ref in store.refs()]
    assert created != sorted(created, key=lambda at: at), "the clock did not go back"


# Where every request is.

PARTS = r"requests ([\d,]+) = answered ([\d,]+) \+ failed ([\d,]+) \+ pending ([\d,]+)\n"
ENDED = r"requests ([\d,]+) = kept ([\d,]+) \+ dropped ([\d,]+) \+ failed ([\d,]+) \+ pending 0\n"


def numbers(pattern: str, done: Done) -> list[int]:
    assert done.code == 0, done.err
    (match,) = re.findall(pattern, done.out)
    return [int(number.replace(",", "")) for number in match]


def test_requests_add_up_at_any_time(crash_server: Server, tmp_path: Path) -> None:
    """In = answered + failed + pending while a build runs, and kept + dropped + failed when it has run."""
    root = ("--root", str(tmp_path / "build"))
    run = crash_server.start(
        *BUILD, *root, "--max-failures", "1", slow=0.015, fail="01", log=str(tmp_path / "log")
    )
    blocks_seen = []
    while not Store(tmp_path / "build").has(REFS[2]):
        for ref in REFS[:2]:
            done = crash_server.run("show", ref, *root)
            if "answered" in done.out:
                blocks_seen.append(numbers(PARTS, done))
            else:
                assert done.code == 2 or "pending 0\n" in done.out, done.err
        assert len(blocks_seen) < 300, "the build does not end"
    assert run.wait().code == 0
    assert len(blocks_seen) > 3
    for expected, *parts in blocks_seen:
        assert expected == sum(parts)
    assert any(min(parts) > 0 for parts in blocks_seen), blocks_seen
    for ref in REFS[:2]:
        expected, *parts = numbers(ENDED, crash_server.run("show", ref, *root))
        assert expected == sum(parts) and parts[-1] > 0


def test_prune_drops_only_what_nobody_refers_to(crash_server: Server, clean: Clean, tmp_path: Path) -> None:
    root = tmp_path / "build"
    at = ("--root", str(root))
    assert crash_server.run(*BUILD, *at).code == 0
    reseeded = (*BUILD, "--version", "0.2.0", "--set", "responses.seed=5", *at)
    assert crash_server.run(*reseeded, point="before figures", at=2).code == -9
    keys = journaled(root)
    printed = crash_server.run("journal", *at).out
    size = re.search(
        r"journal.sqlite: ([\d,]+) replies, 0 scores, [\d.]+ MB\s+of the ([\d,]+) answers that all builds",
        printed,
    )
    assert size and size[1] == f"{len(keys)}" and int(size[2]) >= len(keys)
    states = {line.split()[0]: line for line in printed.splitlines() if "@" in line}
    assert "unfinished" in states["responses@0.2.0"] and "in the store" in states["responses@0.1.0"]

    assert crash_server.run("journal", "--prune", *at).out.startswith("0 replies and scores deleted")
    for ref in ("responses@0.1.0", "comparisons@0.1.0"):
        shutil.rmtree(Store(root).path(ref))
    assert crash_server.run("journal", "--prune", *at).out.startswith("100 replies and scores deleted")
    remaining = journaled(root)
    assert len(remaining) == len(keys) - 100
    # The unfinished build still has all it had asked for.
    removal = crash_server.run("rm", "responses@0.2.0", "--yes", *at)
    assert removal.code == 2 and "unfinished: journal --prune --unfinished deletes" in removal.err
    log = tmp_path / "log"
    assert crash_server.run("journal", "--prune", "--unfinished", *at).out.startswith(
        "100 replies and scores deleted"
    )
    assert journaled(root) < remaining and len(journaled(root) & clean.keys) == len(clean.keys) - 100
    assert crash_server.run(*BUILD, *at, log=str(log)).code == 0
    assert {ref: digest for ref, digest in digests(root).items() if ref in REFS} == clean.digests
    assert len(log.read_text().split()) == 100


@pytest.mark.parametrize(("point", "at"), [("DELETE", 4), ("VACUUM", 1)])
def test_a_killed_prune_prunes_all_or_nothing(
    crash_server: Server, clean: Clean, tmp_path: Path, point: str, at: int
) -> None:
    root = tmp_path / "build"
    assert crash_server.run(*BUILD, "--root", str(root)).code == 0
    shutil.rmtree(Store(root).path(REFS[2]))
    shutil.rmtree(Store(root).path(REFS[1]))
    assert crash_server.run("journal", "--prune", "--root", str(root), point=point, at=at).code == -9
    assert len(journaled(root)) == len(clean.keys) - (100 if point != "DELETE" else 0)
    assert crash_server.run("journal", "--prune", "--root", str(root)).code == 0
    assert len(journaled(root)) == len(clean.keys) - 100
    assert crash_server.run(*BUILD, "--root", str(root)).code == 0
    check_clean(root, clean)


def test_prune_beside_a_build_takes_nothing_from_it(
    crash_server: Server, clean: Clean, tmp_path: Path
) -> None:
    root, log = tmp_path / "build", tmp_path / "log"
    build = crash_server.start(*BUILD, "--root", str(root), slow=SLOW, log=str(log))
    wait_for(log)
    for _ in range(3):
        done = crash_server.run("journal", "--prune", "--root", str(root))
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("0 replies and scores deleted")
    assert build.wait().code == 0
    check_clean(root, clean)


def test_prune_of_unfinished_builds_spares_one_that_runs(
    crash_server: Server, clean: Clean, tmp_path: Path
) -> None:
    root, log = tmp_path / "build", tmp_path / "log"
    build = crash_server.start(*BUILD, "--root", str(root), slow=0.02, log=str(log))
    wait_for(log)
    until(lambda: len(log.read_text().split()) >= 80, "responses are written")  # 64 are those of queries
    assert crash_server.run("journal", "--prune", "--unfinished", "--root", str(root)).code == 0
    assert build.wait().code == 0
    assert digests(root) == clean.digests
    assert crash_server.run("journal", "--prune", "--root", str(root)).out.startswith(
        "0 replies and scores deleted"
    )
