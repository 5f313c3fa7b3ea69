"""Demonstrations on Ray and on real models, killed in the second round: nothing journaled is asked again.

`test_killed` does it with the fake engine, at more points.
"""

import sqlite3
from pathlib import Path

import pytest

from almost_data.generation import journal_file
from almost_data.generation.journal import REPLIES
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import tiny_models, trained
from tests.builders.demonstrations.scripted import REF, read, store_of
from tests.crash import Server

pytestmark = [pytest.mark.engine, pytest.mark.crash]

QUERIES = 20
"""N=4, so that a round has 80 replies, more than may be lost by a kill."""
ROUNDS = (4 * QUERIES, QUERIES, 4 * QUERIES)
"""Replies, user's turns, replies; the replies of a round are scored before the next one."""
MIDDLE = 2 * ROUNDS[0] + ROUNDS[1] + 66
"""What the journal is given up to the middle of the second round."""
BUILD = ("build", "demonstrations", "--turns", "4", "--from", "queries@0.1.0")


def store_at(root: Path) -> Store:
    return store_of(root, [f"What is number {n} good for?" for n in range(QUERIES)])


def keys(root: Path) -> set[bytes]:
    """Those of the replies in the journal."""
    with sqlite3.connect(root / "journal.sqlite") as database:
        keys = {row[0] for row in database.execute("SELECT key FROM reply")}
    database.close()
    return keys


def kill_and_resume(crash_server: Server, root: Path, *how: str) -> None:
    """A build that is killed in its second round, and run again. Checked: nothing is asked twice."""
    arguments = (*BUILD, *how, "--root", str(root))
    done = crash_server.run(*arguments, point="after added", at=MIDDLE)
    assert done.code == -9, done.err
    store = Store(root)
    assert not store.has(REF)
    kept, scores = keys(root), journal_file.count(root / "journal.sqlite", "score")
    assert MIDDLE - REPLIES <= len(kept) + scores <= MIDDLE
    assert sum(ROUNDS[:2]) < len(kept) < sum(ROUNDS) and scores == ROUNDS[0]
    done = crash_server.run(*arguments)
    assert done.code == 0, done.err
    assert verify(store, REF) == [] and kept < keys(root) and len(keys(root)) == sum(ROUNDS)
    environment = store.manifest(REF).environment
    assert environment["engine"]["replies"] == {
        "from_journal": len(kept),
        "generated": sum(ROUNDS) - len(kept),
    }
    assert environment["scorer"]["scores"]["from_journal"] >= scores


def test_on_ray(crash_server: Server, tmp_path: Path) -> None:
    """After a kill, the rows are those of the fake engine itself."""
    pytest.importorskip("ray")
    here = ("--rm", "judge", "--n", "4")
    for name in ("alone", "killed"):
        store_at(tmp_path / name)
    done = crash_server.run(*BUILD, "--engine", "fake", *here, "--root", str(tmp_path / "alone"))
    assert done.code == 0, done.err
    on_ray = ("--engine", "ray", "--set", "engine.engine=fake", "--set", "engine.batch=8", *here)
    kill_and_resume(crash_server, tmp_path / "killed", *on_ray)
    alone, resumed = (Store(tmp_path / name).manifest(REF) for name in ("alone", "killed"))
    assert (alone.digest, alone.fingerprint) == (resumed.digest, resumed.fingerprint)
    assert (alone.environment["engine"]["name"], resumed.environment["engine"]["name"]) == ("fake", "ray")


def test_with_real_models(crash_server: Server, tmp_path: Path) -> None:
    """They take turns in memory where the build is killed, and both stay in the one that is not."""
    pytest.importorskip("transformers")
    policy, prompt = tiny_models.save_tiny(tmp_path / "policy"), tmp_path / "short.txt"
    prompt.write_text("p\n\n-----\n\nHuman:  Is it late?\n\nAssistant:  No.\n")
    who = f'model = "{policy}", prompt = "{prompt}", shots = 1'
    (tmp_path / "it.toml").write_text(
        f'[demonstrations]\nassistant = {{ name = "one", {who}, max_new_tokens = 12 }}\n'
        f'user = {{ name = "other", {who}, max_new_tokens = 6 }}\n'
    )
    # In float32 the engine honours seeds, and a reply does not depend on those that it is made with.
    how = ("--engine", "transformers", "--set", 'engine.dtype="float32"', "--rm", "rm@0.1.0")
    how = (*how, "--config", str(tmp_path / "it.toml"))
    for name in ("whole", "killed"):
        trained.publish_reward(store_at(tmp_path / name), tmp_path / f"rm-{name}", "rm")
    done = crash_server.run(*BUILD, *how, "--root", str(tmp_path / "whole"))
    assert done.code == 0, done.err
    kill_and_resume(crash_server, tmp_path / "killed", *how, "--take-turns")
    whole, resumed = (read(Store(tmp_path / name), REF) for name in ("whole", "killed"))
    # Scores of other batches differ in their last digits.
    for config, rows in whole.items():
        texts = [name for name in rows.columns if "score" not in name]
        assert rows.select(texts).equals(resumed[config].select(texts))
