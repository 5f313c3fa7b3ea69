"""No reply and no score is asked for twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data import scoring
from almost_data.datasets.builder import text_id
from almost_data.generation import CannotStart, Request
from almost_data.scoring import Dialogue
from tests.builders.demonstrations.scripted import QUERIES, Judge, Scripted, build_dialogues, run_of


def test_a_finished_build_made_again_asks_nobody(tmp_path: Path) -> None:
    how: dict[str, Any] = {"turns": 4, "conversations_per_query": 2}
    built = build_dialogues(tmp_path, Scripted(), first := Judge(), **how)
    talks = 2 * len(QUERIES)
    assert built.manifest.environment["engine"]["replies"] == {"from_journal": 0, "generated": 9 * talks}
    assert sum(built.manifest.environment["scorer"]["scores"].values()) == 8 * talks
    assert len(first.recorded) == len(set(first.recorded)), "the same dialogue was scored twice"
    rebuilt = build_dialogues(tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", **how)
    assert (engine.calls, engine.recorded, judge.recorded) == (0, [], [])
    assert rebuilt.manifest.environment["engine"]["replies"] == {"from_journal": 9 * talks, "generated": 0}
    assert rebuilt.manifest.environment["scorer"]["scores"] == {"from_journal": 8 * talks, "scored": 0}
    assert rebuilt.manifest.digest == built.manifest.digest
    # And the same version is there already.
    (_, step) = run_of(built.store, engine, judge, **how).build("demonstrations")
    assert step.action == "reuse" and (engine.calls, judge.recorded) == (0, [])


def test_other_settings_of_the_pick_cost_no_reply_and_no_score(tmp_path: Path) -> None:
    build_dialogues(tmp_path)
    for number, how in enumerate(
        ({"checks": True}, {"preference": True}, {"checks": True, "preference": True})
    ):
        build_dialogues(tmp_path, engine := Scripted(), judge := Judge(), version=f"0.{number + 2}.0", **how)
        assert (engine.calls, judge.recorded) == (0, [])


def test_more_turns_and_more_replies_ask_only_what_is_new(tmp_path: Path) -> None:
    build_dialogues(tmp_path, n=3)
    build_dialogues(tmp_path, engine := Scripted(), version="0.2.0", n=4)
    assert {request.sample for request in engine.recorded} == {3} and len(engine.recorded) == len(QUERIES)
    build_dialogues(tmp_path, engine := Scripted(), version="0.3.0", n=4, turns=4)
    assert {request.id.split(":")[2] for request in engine.recorded} == {"3"}


@pytest.mark.parametrize("at", [10, 33, 41, 60])
def test_an_engine_gone_in_any_round_costs_only_what_it_had_not_answered(tmp_path: Path, at: int) -> None:
    """32 replies, 8 user's turns, 32 replies."""
    clean = build_dialogues(tmp_path / "clean", whole := Scripted(), turns=4)
    remaining = iter(range(at))

    def say(request: Request) -> Exception | None:
        return CannotStart("gone") if next(remaining, None) is None else None

    first, second = Judge(), Judge()
    with pytest.raises(RuntimeError, match="gone"):
        build_dialogues(tmp_path / "one", killed := Scripted(say), first, turns=4)
    built = build_dialogues(tmp_path / "one", back := Scripted(), second, turns=4)
    assert [*killed.recorded, *back.recorded] == whole.recorded and len(killed.recorded) == at
    assert not set(first.recorded) & set(second.recorded)
    assert built.manifest.digest == clean.manifest.digest


def test_a_scorer_gone_midway_is_not_asked_again_what_it_had_said(tmp_path: Path) -> None:
    clean = build_dialogues(tmp_path / "clean", None, whole := Judge(), turns=4)
    remaining = iter(range(45))

    def value(dialogue: Dialogue) -> float:
        if next(remaining, None) is None:
            raise RuntimeError("gone")
        return next(scoring.load("fake/judge").score([dialogue])).value

    with pytest.raises(RuntimeError, match="gone"):
        build_dialogues(tmp_path / "one", None, first := Judge(value), turns=4)
    built = build_dialogues(tmp_path / "one", engine := Scripted(), second := Judge(), turns=4)
    assert engine.recorded == [], "the second round's replies were there"
    assert set(first.recorded[:-1]) | set(second.recorded) == set(whole.recorded)
    assert not set(first.recorded[:-1]) & set(second.recorded)
    assert built.manifest.digest == clean.manifest.digest


def test_a_failed_reply_stands_until_told_otherwise(tmp_path: Path) -> None:
    bad = f"{text_id(QUERIES[3])}:0:1:2"
    built = build_dialogues(
        tmp_path, Scripted(lambda request: OSError("gone") if request.id == bad else None)
    )
    assert built.manifest.ledger[0].failed == 1
    rebuilt = build_dialogues(tmp_path, engine := Scripted(), version="0.2.0")
    assert (engine.calls, rebuilt.manifest.digest) == (0, built.manifest.digest)
    run = replace(run_of(built.store, engine, None, "0.3.0"), retry_failed=True)
    mended = run.build("demonstrations")[-1].manifest
    assert [request.id for request in engine.recorded] == [bad] and mended.ledger[0].failed == 0
    assert mended.digest == build_dialogues(tmp_path / "clean").manifest.digest
