"""A build killed in its second round goes on and ends with the same files."""

import json
from pathlib import Path

import pytest

from almost_data.generation import journal_file
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.builders.demonstrations.scripted import REF
from tests.crash import Server
from tests.watched import digests, files, journaled

pytestmark = pytest.mark.crash

KILLED = (
    *("build", "demonstrations", "--engine", "fake", "--rm", "judge", "--turns", "4", "--limit", "12"),
    *("--set", "demonstrations.conversations_per_query=2"),
)


ROUNDS = (96, 24, 96)
"""Requests of its rounds: 4 replies to 24 conversations, the user's turns, 4 replies to each."""


@pytest.fixture(scope="module")
def undisturbed(
    crash_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], dict[str, int]]:
    """Its root, the keys of its requests in order, and the passes of each point."""
    folder = tmp_path_factory.mktemp("undisturbed")
    log, passes = folder / "log", folder / "passes"
    done = crash_server.run(*KILLED, "--root", str(folder / "build"), log=str(log), counts=str(passes))
    assert done.code == 0, done.err
    keys = log.read_text().split()
    assert len(keys) == len(set(keys)) and verify(Store(folder / "build"), REF) == []
    return folder / "build", keys, json.loads(passes.read_bytes())


@pytest.mark.parametrize(
    ("point", "back"),
    [
        ("reply", ROUNDS[2] + ROUNDS[1] // 2),  # a user's turn
        ("reply", ROUNDS[2] // 2),
        ("reply", 0),  # the last one
        ("before commit", 0),  # of the last scores
        ("after commit", 1),
        ("half shard", 0),
        ("before published", 0),
    ],
)
def test_killed_in_its_second_round_a_build_goes_on(
    crash_server: Server,
    undisturbed: tuple[Path, list[str], dict[str, int]],
    tmp_path: Path,
    point: str,
    back: int,
) -> None:
    clean, keys, passes = undisturbed
    root, log = tmp_path / "build", tmp_path / "log"
    done = crash_server.run(*KILLED, "--root", str(root), log=str(log), point=point, at=passes[point] - back)
    assert done.code == -9
    assert not Store(root).has(REF) or point == "before published"
    kept, requested = journaled(root), log.read_text().split()
    assert requested == keys[: len(requested)] and len(requested) > len(keys) - sum(ROUNDS[1:]), (
        "not in the second round"
    )
    scores = journal_file.count(root / "journal.sqlite", "score")
    assert ROUNDS[0] * 0.9 < scores <= ROUNDS[0] + ROUNDS[2]
    done = crash_server.run(*KILLED, "--root", str(root), log=str(log))
    assert done.code == 0, done.err
    again = log.read_text().split()[len(requested) :]
    assert not kept & set(again), "what is in the journal was asked again"
    assert kept | set(again) == set(keys)
    assert digests(root) == digests(clean) and files(root) == files(clean)
    store = Store(root)
    assert verify(store, REF) == []
    counts = store.manifest(REF).environment["scorer"]["scores"]
    if point != "before published":
        assert counts["from_journal"] >= scores and sum(counts.values()) == ROUNDS[0] + ROUNDS[2]
    assert journal_file.count(root / "journal.sqlite", "score") == journal_file.count(
        clean / "journal.sqlite", "score"
    )
