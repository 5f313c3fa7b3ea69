"""No reply and no score is asked for twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data import scoring
from almost_data.datasets.builder import text_id
from almost_data.generation import CannotStart, Request
from almost_data.scoring import Dialogue
from tests.builders.demonstrations.scripted import QUERIES, Judge, Scripted, made, run_of


def test_a_finished_build_made_again_asks_nobody(tmp_path: Path) -> None:
    how: dict[str, Any] = {"turns": 4, "conversations_per_query": 2}
    one = made(tmp_path, Scripted(), first := Judge(), **how)
    talks = 2 * len(QUERIES)
    assert one.manifest.environment["engine"]["replies"] == {"from_journal": 0, "generated": 9 * talks}
    assert sum(one.manifest.environment["scorer"]["scores"].values()) == 8 * talks
    assert len(first.asked) == len(set(first.asked)), "the same dialogue was scored twice"
    other = made(tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", **how)
    assert (engine.calls, engine.asked, judge.asked) == (0, [], [])
    assert other.manifest.environment["engine"]["replies"] == {"from_journal": 9 * talks, "generated": 0}
    assert other.manifest.environment["scorer"]["scores"] == {"from_journal": 8 * talks, "scored": 0}
    assert other.manifest.digest == one.manifest.digest
    # And the same version is there already.
    (_, step) = run_of(one.store, engine, judge, **how).build("demonstrations")
    assert step.action == "reuse" and (engine.calls, judge.asked) == (0, [])


def test_other_settings_of_the_pick_cost_no_reply_and_no_score(tmp_path: Path) -> None:
    made(tmp_path)
    for number, how in enumerate(
        ({"checks": True}, {"preference": True}, {"checks": True, "preference": True})
    ):
        made(tmp_path, engine := Scripted(), judge := Judge(), version=f"0.{number + 2}.0", **how)
        assert (engine.calls, judge.asked) == (0, [])


def test_more_turns_and_more_replies_ask_only_what_is_new(tmp_path: Path) -> None:
    made(tmp_path, n=3)
    made(tmp_path, engine := Scripted(), version="0.2.0", n=4)
    assert {request.sample for request in engine.asked} == {3} and len(engine.asked) == len(QUERIES)
    made(tmp_path, engine := Scripted(), version="0.3.0", n=4, turns=4)
    assert {request.id.split(":")[2] for request in engine.asked} == {"3"}


@pytest.mark.parametrize("at", [10, 33, 41, 60])
def test_an_engine_gone_in_any_round_costs_only_what_it_had_not_answered(tmp_path: Path, at: int) -> None:
    """32 replies, 8 user's turns, 32 replies."""
    clean = made(tmp_path / "clean", every := Scripted(), turns=4)
    left = iter(range(at))

    def say(request: Request) -> Exception | None:
        return CannotStart("gone") if next(left, None) is None else None

    first, second = Judge(), Judge()
    with pytest.raises(RuntimeError, match="gone"):
        made(tmp_path / "one", gone := Scripted(say), first, turns=4)
    one = made(tmp_path / "one", back := Scripted(), second, turns=4)
    assert [*gone.asked, *back.asked] == every.asked and len(gone.asked) == at
    assert not set(first.asked) & set(second.asked)
    assert one.manifest.digest == clean.manifest.digest


def test_a_scorer_gone_midway_is_not_asked_again_what_it_had_said(tmp_path: Path) -> None:
    clean = made(tmp_path / "clean", None, every := Judge(), turns=4)
    left = iter(range(45))

    def value(one: Dialogue) -> float:
        if next(left, None) is None:
            raise RuntimeError("gone")
        return next(scoring.load("fake/judge").score([one])).value

    with pytest.raises(RuntimeError, match="gone"):
        made(tmp_path / "one", None, first := Judge(value), turns=4)
    one = made(tmp_path / "one", engine := Scripted(), second := Judge(), turns=4)
    assert engine.asked == [], "the second round's replies were there"
    assert set(first.asked[:-1]) | set(second.asked) == set(every.asked)
    assert not set(first.asked[:-1]) & set(second.asked)
    assert one.manifest.digest == clean.manifest.digest


def test_a_failed_reply_stands_until_told_otherwise(tmp_path: Path) -> None:
    bad = f"{text_id(QUERIES[3])}:0:1:2"
    one = made(tmp_path, Scripted(lambda request: OSError("gone") if request.id == bad else None))
    assert one.manifest.ledger[0].failed == 1
    other = made(tmp_path, engine := Scripted(), version="0.2.0")
    assert (engine.calls, other.manifest.digest) == (0, one.manifest.digest)
    run = replace(run_of(one.store, engine, None, "0.3.0"), retry_failed=True)
    mended = run.build("demonstrations")[-1].manifest
    assert [request.id for request in engine.asked] == [bad] and mended.ledger[0].failed == 0
    assert mended.digest == made(tmp_path / "clean").manifest.digest
