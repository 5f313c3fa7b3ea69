import random
from collections.abc import Iterable, Iterator

import pytest
from rouge_score import rouge_scorer

from almost_data import prompts
from almost_data.builders import Built, silent
from almost_data.builders.queries import QueriesConfig, build
from almost_data.generation import Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.manifest import check_ledger

CONFIG = QueriesConfig(model="any", target=30, round_size=32)


class Shuffled(FakeEngine):
    """The fake engine, its replies in another order each time, and failing where told."""

    def __init__(self, seed: int = 0, fail: Iterable[int] = ()) -> None:
        self.random, self.fail = random.Random(seed), set(fail)

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        replies = list(super().generate(requests))
        for place in self.fail & set(range(len(replies))):
            replies[place] = Reply(replies[place].id, "", "error", error="out of luck")
        self.random.shuffle(replies)
        yield from replies


def mine(config: QueriesConfig = CONFIG, engine: FakeEngine | None = None) -> Built:
    built = build(config, {}, engine or FakeEngine(), silent)
    check_ledger(built.ledger)
    return built


def test_mining_reaches_the_target_with_novel_queries() -> None:
    built = mine()
    queries = built.tables["default"]["query"].to_list()
    assert len(queries) == 30
    known = [*prompts.seeds()[1]]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    for query in queries:
        assert max(scorer.score(one, query)["rougeL"].fmeasure for one in known) < 0.5
        assert len(query) >= 30 or query[-1] in ".?!"
        known.append(query)


def test_order_of_replies_decides_nothing() -> None:
    first, second = mine(engine=Shuffled(1)), mine(engine=Shuffled(2))
    assert all(first.tables[name].equals(second.tables[name]) for name in ("default", "rejected"))
    assert first.ledger == second.ledger


def test_every_candidate_is_accounted_for() -> None:
    built = mine(engine=Shuffled(fail=[3, 7]))
    rejected = built.tables["rejected"]
    asked = built.diagnostics["rounds"] * CONFIG.round_size
    assert len(built.tables["default"]) + len(rejected) == asked == built.ledger[0].n_in
    assert rejected["candidate"].n_unique() == len(rejected)
    reasons = dict(rejected.group_by("reason").len().iter_rows())
    assert reasons["failed"] == built.ledger[0].failed == 2 * built.diagnostics["rounds"]
    dropped: dict[str, int] = {}
    for entry in built.ledger:
        dropped |= entry.dropped
    assert dropped == {reason: n for reason, n in reasons.items() if reason != "failed"}


def test_not_novel_rows_name_their_nearest_and_it_is_over_the_threshold() -> None:
    rejected = mine(QueriesConfig(model="any", target=30, round_size=64, max_rouge_l=0.3)).tables["rejected"]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    rows = [row for row in rejected.iter_rows(named=True) if row["reason"] == "not_novel"]
    assert rows
    for row in rows:
        assert row["score"] == scorer.score(row["nearest"], row["query"])["rougeL"].fmeasure >= 0.3


def test_a_bound_of_rounds_is_said() -> None:
    built = mine(QueriesConfig(model="any", target=1000, round_size=8, max_rounds=2))
    assert built.diagnostics["rounds"] == 2
    assert "of 1000 queries" in built.notes[0]


def test_limit_caps_the_target() -> None:
    assert len(mine(QueriesConfig(model="any", target=30, limit=5)).tables["default"]) == 5


def test_a_candidate_cut_at_the_token_limit_is_dropped() -> None:
    built = mine(QueriesConfig(model="any", target=3, round_size=64, max_new_tokens=8))
    assert "cut_at_limit" in built.tables["rejected"]["reason"].to_list()
    assert all(len(query.split()) <= 8 for query in built.tables["default"]["query"])


def test_an_engine_that_only_fails_stops_the_build() -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        mine(engine=Shuffled(fail=range(100)))


def test_shots_are_drawn_from_seeds_and_accepted() -> None:
    seen: list[Request] = []

    class Watched(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            seen.extend(requests)
            return super().generate(requests)

    built = mine(engine=Watched())
    instruction, seeds = prompts.seeds()
    allowed = set(seeds) | set(built.tables["default"]["query"])
    for request in seen:
        first, *shots, last = request.prompt.split("\nQuery:")
        assert (first, last) == (instruction, "")
        assert len({shot.strip() for shot in shots}) == 10
        assert {shot.strip() for shot in shots} <= allowed
    assert any(
        shot.strip() not in seeds for request in seen for shot in request.prompt.split("\nQuery:")[1:-1]
    )
