"""The best reply by the reward model is picked, and best against worst is the preference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from almost_data import scoring
from almost_data.datasets.builder import text_id
from almost_data.errors import InputError
from almost_data.generation import Request
from almost_data.generation.fake import FakeEngine
from almost_data.run import presets
from almost_data.scoring import Dialogue
from tests.builders.demonstrations.scripted import JUDGE, QUERIES, Judge, Scripted, build_dialogues
from tests.settings import config_of, fake_tiny


@pytest.mark.parametrize("turns", [2, 6])
def test_the_same_whatever_the_order_of_replies_and_scores(tmp_path: Path, turns: int) -> None:
    how: dict[str, Any] = {"turns": turns, "conversations_per_query": 2, "preference": True}
    built = build_dialogues(tmp_path / "one", **how)
    same = build_dialogues(tmp_path / "same", FakeEngine(), **how)
    shuffled = build_dialogues(tmp_path / "other", Scripted(shuffle=turns), Judge(), **how)
    assert built.manifest.digest == same.manifest.digest == shuffled.manifest.digest
    assert built.manifest.fingerprint == same.manifest.fingerprint == shuffled.manifest.fingerprint
    assert built.manifest.diagnostics == shuffled.manifest.diagnostics
    assert {len(dialogue["messages"]) for dialogue in built.talks.values()} == {turns}
    assert len(built.talks) == 2 * len(QUERIES) and len(built.candidates) == 4 * len(QUERIES) * turns
    assert build_dialogues(tmp_path / "seed", **how, seed=1).manifest.digest != built.manifest.digest


def test_the_score_is_that_of_the_whole_dialogue(tmp_path: Path) -> None:
    # One of the replies is the same everywhere, so that the journal must tell dialogues apart by the rest.
    built = build_dialogues(
        tmp_path, Scripted(lambda request: None if request.sample else "The same."), turns=4
    )
    assert built.candidates.filter(response="The same.")["score"].n_unique() == 2 * len(QUERIES)
    for row in built.candidates.iter_rows(named=True):
        texts = [m["content"] for m in built.talks[row["query_id"], row["conversation"]]["messages"]]
        (score,) = scoring.load("fake/judge").score(
            [Dialogue.of("x", *texts[: row["turn"]], row["response"])]
        )
        assert row["score"] == score.value
    assert built.manifest.config["reward_models"]["scorer"] == {"id": "fake/judge", "revision": "1"}
    assert {"id": "fake/judge", "revision": "1"} in built.manifest.diagnostics["models"]


@pytest.mark.parametrize("value", [lambda built: 0.0, lambda built: -(len(built.turns[-1]) % 3) - 1.0])
def test_of_equal_scores_the_first_sample_is_picked(
    tmp_path: Path, value: Callable[[Dialogue], float]
) -> None:
    built = build_dialogues(tmp_path, Scripted(shuffle=3), Judge(value), turns=4, n=5)
    for _, group in built.candidates.group_by("query_id", "conversation", "turn"):
        best = group.filter(score=group["score"].max())
        assert group.filter(rank=0)["sample"][0] == best["sample"].min()
    if value(Dialogue.of("", "", "")) == 0:
        assert set(built.candidates.filter(rank=0)["sample"]) == {0}


def test_self_play_has_one_reply_and_no_score(tmp_path: Path) -> None:
    judge = Judge()
    built = build_dialogues(tmp_path, None, judge, n=1, turns=4)
    assert (
        judge.recorded == []
        and "reward_models" not in built.manifest.config
        and "scorer" not in built.manifest.environment
    )
    assert built.candidates["score"].null_count() == len(built.candidates) == 2 * len(QUERIES)
    assert built.tables["default"]["rm_score"].null_count() == len(QUERIES)
    assert built.candidates["rank"].unique().to_list() == [0]
    assert built.manifest.diagnostics["best_of_n"] is None


def test_one_reply_may_have_a_score(tmp_path: Path) -> None:
    """Self-Play and RMSP then compare on the same queries by the same model."""
    built = build_dialogues(tmp_path, n=1, rm=JUDGE.id)
    assert built.tables["default"]["rm_score"].null_count() == 0
    four = build_dialogues(tmp_path, version="0.2.0")
    # The one reply is the first of the four: what is asked for it is the same.
    first = four.candidates.filter(sample=0).sort("query_id")
    assert first["response"].equals(built.candidates.sort("query_id")["response"])
    assert (
        four.tables["default"].sort("query_id")["rm_score"]
        >= built.tables["default"].sort("query_id")["rm_score"]
    ).all()


def test_a_second_reward_model_picks_nothing(tmp_path: Path) -> None:
    built = build_dialogues(tmp_path, turns=4)
    two = build_dialogues(
        tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", turns=4, second_rm="fake/other"
    )
    assert (engine.recorded, judge.recorded) == ([], [])
    assert two.talks == built.talks and two.manifest.fingerprint != built.manifest.fingerprint
    for row in two.candidates.iter_rows(named=True):
        texts = [m["content"] for m in two.talks[row["query_id"], row["conversation"]]["messages"]]
        dialogue = Dialogue.of("x", *texts[: row["turn"]], row["response"])
        assert row["second_score"] == next(scoring.load("fake/other").score([dialogue])).value
    assert built.candidates["second_score"].null_count() == len(built.candidates)
    assert 0 <= two.manifest.diagnostics["best_of_n"]["second"]["agreement"] < 1
    itself = build_dialogues(tmp_path, version="0.3.0", turns=4, second_rm=JUDGE.id)
    assert itself.manifest.diagnostics["best_of_n"]["second"]["agreement"] == 1
    assert itself.candidates["second_score"].equals(itself.candidates["score"])


def test_an_odd_number_of_turns_is_refused() -> None:
    for turns in (0, 1, 3):
        with pytest.raises(InputError, match="turns"):
            presets.load("tiny", assignments=(f"demonstrations.turns={turns}",))


def test_the_assistant_and_the_user_need_names_of_their_own(tmp_path: Path) -> None:
    config = config_of(fake_tiny(), "demonstrations")
    twin = msgspec.structs.replace(config.user, name=config.assistant.name)
    with pytest.raises(InputError, match="is both assistant and user: give each its own name"):
        build_dialogues(tmp_path, turns=4, user=twin)
    build_dialogues(tmp_path, turns=2, user=twin)  # nobody asks it


def test_best_against_worst_is_the_preference(tmp_path: Path) -> None:
    built = build_dialogues(tmp_path, turns=4, preference=True)
    rows = built.tables["preference"].rows(named=True)
    assert len(rows) == len(built.candidates.select("query_id", "conversation", "turn").unique())
    for row in rows:
        query, number, turn = row["comparison_id"].split("-")
        group = built.candidates.filter(query_id=query, conversation=int(number), turn=int(turn)).sort("rank")
        best, worst = group.row(0, named=True), group.row(-1, named=True)
        assert row["chosen"] == [{"role": "assistant", "content": best["response"]}]
        assert row["rejected"] == [{"role": "assistant", "content": worst["response"]}]
        assert (row["chosen_score"], row["rejected_score"]) == (group["score"].max(), group["score"].min())
        assert row["prompt"] == built.talks[query, int(number)]["messages"][: int(turn)]
        assert row["query_id"] == query
    assert "preference" not in build_dialogues(tmp_path, version="0.2.0", turns=4).tables


def test_replies_that_nobody_tells_apart_are_no_preference(tmp_path: Path) -> None:
    """Equal scores, or one reply left; and where that is so everywhere, there is no such config."""

    def say(request: Request) -> str | None:
        fails = request.id.startswith(text_id(QUERIES[0])) and request.sample
        return "" if fails else "The same." if request.id.startswith(text_id(QUERIES[1])) else None

    built = build_dialogues(tmp_path, Scripted(say), preference=True)
    assert set(built.tables["preference"]["query_id"]) == set(map(text_id, QUERIES[2:]))
    equal = build_dialogues(tmp_path / "equal", judge=Judge(lambda built: 1.0), preference=True)
    assert "preference" not in equal.tables and "preference" not in equal.manifest.counts
    with pytest.raises(InputError, match=r"demonstrations\.n is 1: make it 2 or more"):
        build_dialogues(tmp_path, version="0.2.0", n=1, preference=True)
