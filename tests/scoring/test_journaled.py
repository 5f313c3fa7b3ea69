"""What was scored once is never scored again, whoever asks and whatever ends the work."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data.generation import Model, Request, Sampling, journal
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import AnswerCounts, JournalSession, count, prune, status
from almost_data.scoring import Dialogue, Score, load
from almost_data.scoring import journaled as module
from almost_data.scoring.journaled import JournaledScorer, key
from tests.waiting import until

DIALOGUES = [Dialogue.of(str(n), f"Why {n}?", f"Because of {n}.") for n in range(300)]


class Counted:
    """The fake scorer, counting what it was asked, and dying or waiting where told."""

    def __init__(self, stop_at: int | None = None, wait: float = 0.0) -> None:
        self.inside = load("fake/rm")
        self.model, self.max_tokens = self.inside.model, self.inside.max_tokens
        self.reward_stats = self.inside.reward_stats
        self.scored: list[tuple[str, ...]] = []
        self.stop_at, self.wait = stop_at, wait

    def settings(self) -> dict[str, Any]:
        return {"device": "none"}

    def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
        for number, dialogue in enumerate(list(dialogues)):
            if number == self.stop_at:
                raise RuntimeError("scorer died")
            self.scored.append(dialogue.turns)
            yield from self.inside.score([dialogue])
            time.sleep(self.wait)


def journaled(scorer: Any, path: Path, build: str = "") -> JournaledScorer:
    return JournaledScorer(scorer, JournalSession(path, build))


def by_id(scores: Iterable[Score]) -> dict[str, Score]:
    return {score.id: score for score in scores}


def test_what_is_known_is_not_asked_again_and_comes_back_the_same(tmp_path: Path) -> None:
    first = by_id(journaled(Counted(), tmp_path / "j").score(DIALOGUES))
    again = journaled(silent := Counted(), tmp_path / "j")
    assert by_id(again.score(reversed(DIALOGUES))) == first == by_id(load("fake/rm").score(DIALOGUES))
    assert (silent.scored, again.counts) == ([], AnswerCounts(from_journal=300))
    assert (again.model, again.settings()) == (Model("fake/rm", "1"), {"device": "none"})
    assert count(tmp_path / "j", "score") == 300


def test_a_text_is_scored_once_whatever_its_ids(tmp_path: Path) -> None:
    twice = [*DIALOGUES[:20], *(replace(dialogue, id=f"again {dialogue.id}") for dialogue in DIALOGUES[:20])]
    scorer = journaled(inside := Counted(), tmp_path / "j")
    scores = by_id(scorer.score(twice))
    assert len(scores) == 40
    assert all(
        scores[dialogue.id].value == scores[f"again {dialogue.id}"].value for dialogue in DIALOGUES[:20]
    )
    assert (len(inside.scored), scorer.counts) == (20, AnswerCounts(20, 20))


def test_more_than_a_window_is_read_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 32)
    read = []
    dialogues = (read.append(dialogue.id) or dialogue for dialogue in DIALOGUES)  # type: ignore[func-returns-value]
    scores = journaled(Counted(), tmp_path / "j").score(dialogues)
    first = next(scores)
    assert len(read) == 32
    assert by_id([first, *scores]) == by_id(load("fake/rm").score(DIALOGUES))
    again = journaled(inside := Counted(), tmp_path / "j")
    dialogues = [
        *DIALOGUES[:250],
        *(Dialogue.of(dialogue.id, "New?", dialogue.id) for dialogue in DIALOGUES[250:]),
    ]
    assert len(by_id(again.score(dialogues))) == 300
    assert (len(inside.scored), again.counts.from_journal) == (50, 250)


def test_a_scorer_that_dies_costs_only_what_it_had_not_scored(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="scorer died"):
        list(journaled(Counted(stop_at=90), tmp_path / "j").score(DIALOGUES))
    rest = Counted()
    assert len(list(journaled(rest, tmp_path / "j").score(DIALOGUES))) == 300
    assert len(rest.scored) == 210


def test_a_scorer_that_leaves_one_out_is_told(tmp_path: Path) -> None:
    class Lazy(Counted):
        def score(self, dialogues: Iterable[Dialogue]) -> Iterator[Score]:
            yield from list(super().score(dialogues))[1:]

    with pytest.raises(RuntimeError, match="fake/rm left 1 dialogues without a score"):
        list(journaled(Lazy(), tmp_path / "j").score(DIALOGUES))


def test_the_key_is_all_that_decides_a_score_and_nothing_else() -> None:
    dialogue, scorer = DIALOGUES[0], load("fake/rm")
    keys = [
        key(dialogue, scorer),
        key(Dialogue.of(dialogue.id, "Why 0?Because", " of 0."), scorer),
        key(Dialogue.of(dialogue.id, *dialogue.turns, *dialogue.turns), scorer),
        key(dialogue, load("fake/other")),
        key(dialogue, load("fake/rm", max_tokens=512)),
    ]
    pinned = load("fake/rm")
    pinned.model = Model("fake/rm", "2")
    assert len({*keys, key(dialogue, pinned)}) == 6
    assert key(replace(dialogue, id="x"), load("fake/rm", options={"batch_tokens": 7})) == keys[0]
    dtypes = {key(dialogue, scorer, settings) for settings in ((), ("float32",), ("bfloat16",))}
    assert len(dtypes) == 3 and keys[0] in dtypes
    assert keys[0].hex()[:16] == "094f9a28f4c9e99f", "what builders kept is found again"


def test_status_counts_scores_and_prune_keeps_those_of_what_is_published(tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = journaled(Counted(), path, "comparisons@0.1.0")
    list(first.score(DIALOGUES[:50]))
    first.session.mark_published()
    with pytest.raises(RuntimeError):
        list(journaled(Counted(stop_at=10), path, "comparisons@0.2.0").score(DIALOGUES[40:80]))
    early, late = status(path)
    assert (early.published, early.requests, early.answered, early.pending, early.computed) == (
        True,
        50,
        50,
        0,
        50,
    )
    assert (late.published, late.requests, late.answered, late.pending) == (False, 40, 20, 20)
    assert (late.from_journal, late.computed) == (10, 10)
    locked = ["comparisons@0.1.0", "comparisons@0.2.0"]
    assert prune(path, ["comparisons@0.1.0"], unfinished=False, locked=locked) == 0
    assert prune(path, ["comparisons@0.1.0"], unfinished=True, locked=locked) == 10
    assert count(path, "score") == 50
    assert prune(path, [], unfinished=False, locked=locked) == 50
    assert status(path) == []


def test_a_build_with_replies_and_scores_is_one_run_of_both(tmp_path: Path) -> None:
    path = tmp_path / "j"
    sampling = Sampling(40)
    requests = [Request(str(n), Model("fake/m", "1"), "head ", f"{n}", sampling, seed=n) for n in range(20)]
    for _ in range(2):
        session = JournalSession(path, "demonstrations@0.1.0")
        engine = JournaledGenerator(FakeEngine(), session)
        scorer = JournaledScorer(Counted(), session)
        list(engine.generate(requests))
        list(scorer.score(DIALOGUES[:30]))
    [build] = status(path)
    assert (build.requests, build.answered, build.from_journal, build.computed) == (50, 50, 50, 50)
    session.mark_published()
    assert prune(path, ["demonstrations@0.1.0"], unfinished=True, locked=["demonstrations@0.1.0"]) == 0


def test_a_lone_score_is_on_disk_before_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SECONDS", 0.05)
    scores = journaled(Counted(), tmp_path / "j").score(DIALOGUES[:2])
    next(scores)
    until(lambda: count(tmp_path / "j", "score") == 1, "the score is on disk")
    assert len(list(scores)) == 1
