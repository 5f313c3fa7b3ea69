"""Demonstrations on Ray, killed in the second round: nothing journaled is asked again.

`test_killed` does it without Ray, at more points.
"""

from pathlib import Path

import pytest

from almost_data.generation import journal_file
from almost_data.generation.journal import REPLIES
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.builders.demonstrations.scripted import REF, store_of
from tests.crash import Server
from tests.watched import journaled

pytestmark = [pytest.mark.engine, pytest.mark.crash]

QUERIES = 20
"""N=4, so that a round has 80 replies, more than may be lost by a kill."""
ROUNDS = (4 * QUERIES, QUERIES, 4 * QUERIES)
"""Replies, user's turns, replies; the replies of a round are scored before the next one."""
MIDDLE = 2 * ROUNDS[0] + ROUNDS[1] + 66
"""What the journal is given up to the middle of the second round."""
BUILD = ("build", "demonstrations", "--turns", "4", "--from", "queries@0.1.0")


def test_on_ray(crash_server: Server, tmp_path: Path) -> None:
    """After a kill, the rows are those of the fake engine itself."""
    pytest.importorskip("ray")
    for name in ("alone", "killed"):
        store_of(tmp_path / name, [f"What is number {n} good for?" for n in range(QUERIES)])
    here = (*BUILD, "--rm", "judge", "--n", "4")
    done = crash_server.run(*here, "--engine", "fake", "--root", str(tmp_path / "alone"))
    assert done.code == 0, done.err
    root = tmp_path / "killed"
    how = ("--engine", "ray", "--set", "engine.engine=fake", "--set", "engine.batch=8", "--root", str(root))
    done = crash_server.run(*here, *how, point="after added", at=MIDDLE)
    assert done.code == -9, done.err
    store = Store(root)
    assert not store.has(REF)
    kept, scores = journaled(root), journal_file.count(root / "journal.sqlite", "score")
    assert MIDDLE - REPLIES <= len(kept) + scores <= MIDDLE
    assert sum(ROUNDS[:2]) < len(kept) < sum(ROUNDS) and scores == ROUNDS[0]
    done = crash_server.run(*here, *how)
    assert done.code == 0, done.err
    assert verify(store, REF) == [] and kept < journaled(root) and len(journaled(root)) == sum(ROUNDS)
    alone, resumed = (Store(tmp_path / name).manifest(REF) for name in ("alone", "killed"))
    replies = {"from_journal": len(kept), "generated": sum(ROUNDS) - len(kept)}
    assert resumed.environment["engine"]["replies"] == replies
    assert resumed.environment["scorer"]["scores"]["from_journal"] >= scores
    assert (alone.digest, alone.fingerprint) == (resumed.digest, resumed.fingerprint)
    assert (alone.environment["engine"]["name"], resumed.environment["engine"]["name"]) == ("fake", "ray")
