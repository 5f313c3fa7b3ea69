"""Engine and reward model take turns in memory where both do not fit."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from almost_data.datasets.builder import RewardModel
from almost_data.datasets.manifest import Manifest
from almost_data.generation import Model, Reply, Request
from almost_data.scoring import Dialogue, Score
from almost_data.store.store import Store
from tests.builders.demonstrations.scripted import Judge, Scripted, run_of, store_of


class Watched(Scripted):
    """Says when it is asked and when it is closed."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.events.append("engine")
        yield from super().generate(requests)
        self.events.append("engine done")

    def close(self) -> None:
        self.events.append("engine closed")


class WatchedJudge(Judge):
    """Likewise."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        self.events.append("scorer")
        yield from super().score(dialogues)
        self.events.append("scorer done")

    def close(self) -> None:
        self.events.append("scorer closed")


def in_turns(store: Store, events: list[str], version: str = "0.1.0", **settings: Any) -> Manifest:
    run = run_of(store, Watched(events), WatchedJudge(events), version, turns=4, **settings)
    return replace(run, take_turns=True).build("demonstrations")[-1].manifest


def test_engine_and_reward_model_take_turns(tmp_path: Path) -> None:
    """Whoever is asked has the memory to itself; the second round's engine answers twice before it goes."""
    manifest = in_turns(store_of(tmp_path / "turns"), events := [])
    ask, score = ["engine", "engine done"], ["engine closed", "scorer", "scorer done"]
    assert events == [*ask, *score, "scorer closed", *ask, *ask, *score]
    stay: list[str] = []
    staying = run_of(store_of(tmp_path / "stay"), Watched(stay), WatchedJudge(stay), turns=4)
    expected = staying.build("demonstrations")[-1].manifest
    assert [event for event in events if "closed" not in event] == stay
    assert manifest.digest == expected.digest and manifest.fingerprint == expected.fingerprint
    assert (manifest.environment["take_turns"], expected.environment["take_turns"]) == (True, False)


def test_who_is_not_asked_sends_nobody_away(tmp_path: Path) -> None:
    in_turns(store := store_of(tmp_path), events := [])
    events.clear()
    in_turns(store, events, "0.2.0")
    assert events == [], "the journal has it all"
    in_turns(store, events, "0.3.0", n=5)
    assert events.count("engine") == events.count("engine closed") + 1 == 3
    assert "take_turns" not in in_turns(store, events, "0.4.0", n=1).environment, "there is nobody to do so"


def test_a_second_reward_model_takes_its_turn(tmp_path: Path) -> None:
    events: list[str] = []
    run = run_of(store_of(tmp_path), Watched(events), WatchedJudge(events), second_rm="fake/other")
    judge = WatchedJudge(last := [])
    run.loaded_scorers[RewardModel("fake/other", 1024)] = judge
    judge.model = Model("fake/other", "1")
    replace(run, take_turns=True).build("demonstrations")
    assert events[-4:] == ["engine closed", "scorer", "scorer done", "scorer closed"]
    assert last == ["scorer", "scorer done"]
