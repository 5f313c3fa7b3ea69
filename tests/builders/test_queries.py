import random
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from almost_data.builders.queries import BUILDER, QueriesConfig, build
from almost_data.datasets.builder import Built, silent
from almost_data.datasets.filters import account
from almost_data.datasets.ledger import check_ledger
from almost_data.datasets.tables import last_turn
from almost_data.datasets.user_filters import UserFilter
from almost_data.errors import InputError
from almost_data.generation import Reply, Request, prompts
from almost_data.generation.fake import FakeEngine
from almost_data.run import presets
from almost_data.run.build import BuildRun
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.settings import fake_tiny, with_settings

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


def texts(built: Built) -> list[str]:
    return built.tables["default"].select(last_turn())["prompt"].to_list()


def test_mining_reaches_the_target_with_novel_queries() -> None:
    from rouge_score import rouge_scorer

    built = mine()
    queries = texts(built)
    assert len(queries) == 30
    existing = [*prompts.seeds()[1]]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    for query in queries:
        assert max(scorer.score(earlier, query)["rougeL"].fmeasure for earlier in existing) < 0.5
        assert len(query) >= 30 or query[-1] in string.punctuation
        existing.append(query)


def test_order_of_replies_decides_nothing() -> None:
    first, second = mine(engine=Shuffled(1)), mine(engine=Shuffled(2))
    assert all(first.tables[name].equals(second.tables[name]) for name in ("default", "rejected"))
    assert first.ledger == second.ledger


def test_every_candidate_is_accounted_for() -> None:
    built = mine(engine=Shuffled(fail=[3, 7]))
    rejected = built.tables["rejected"]
    candidates = built.diagnostics["rounds"] * CONFIG.round_size
    assert len(built.tables["default"]) + len(rejected) == candidates == built.ledger[0].n_in
    assert rejected["candidate"].n_unique() == len(rejected)
    reasons = dict(rejected.group_by("reason").len().iter_rows())
    assert reasons["failed"] == built.ledger[0].failed == 2 * built.diagnostics["rounds"]
    dropped: dict[str, int] = {}
    for entry in built.ledger:
        dropped |= entry.dropped
    assert dropped == {reason: n for reason, n in reasons.items() if reason != "failed"}


def test_not_novel_rows_name_their_nearest_and_it_is_over_the_threshold() -> None:
    from rouge_score import rouge_scorer

    rejected = mine(
        QueriesConfig(model="any", target=10, round_size=64, max_rounds=9, max_rouge_l=0.3)
    ).tables["rejected"]
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
    assert all(len(query.split()) <= 8 for query in texts(built))


def test_an_engine_that_only_fails_stops_the_build() -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        mine(engine=Shuffled(fail=range(100)))


def test_shots_are_drawn_from_seeds_and_accepted() -> None:
    sent_requests: list[Request] = []

    class Watched(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            sent_requests.extend(requests)
            return super().generate(requests)

    built = mine(engine=Watched())
    instruction, seeds = prompts.seeds()
    allowed = set(seeds) | set(texts(built))
    for request in sent_requests:
        first, *shots, last = request.prompt.split("\nQuery:")
        assert (first, last) == (f"{instruction}\n", "")
        assert len({shot.strip() for shot in shots}) == 10
        assert {shot.strip() for shot in shots} <= allowed
    assert any(
        shot.strip() not in seeds
        for request in sent_requests
        for shot in request.prompt.split("\nQuery:")[1:-1]
    )


def test_defaults_are_the_papers() -> None:
    config = QueriesConfig(model="any")
    assert (config.target, config.shots, config.temperature, config.top_p) == (10_000, 10, 1.2, 0.9)
    assert (config.max_new_tokens, config.max_rouge_l, config.min_chars) == (64, 0.5, 30)


class Says(FakeEngine):
    """Writes the given lines, one a request, over and over."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for number, request in enumerate(requests):
            yield Reply(request.id, self.lines[number % len(self.lines)], "stop")


def test_the_same_text_is_one_query_even_where_rouge_sees_no_word() -> None:
    built = mine(
        QueriesConfig(model="any", target=5, round_size=6, max_rounds=2),
        Says(" " + "今天的天气怎么样，需要带伞吗？" * 2),
    )
    assert len(built.tables["default"]) == 1
    assert set(built.tables["rejected"]["reason"]) == {"duplicate"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("Define entropy", "too_short"),
        ('Define "entropy"', None),
        ("Define entropy.", None),
        ("怎样种薄荷？", None),
        ("薄荷。", None),
        ("怎样种薄荷", "too_short"),
        ("x" * 29, "too_short"),
        ("x" * 30, None),
        ("", "empty"),
    ],
)
def test_short_queries_need_final_punctuation(query: str, reason: str | None) -> None:
    engine = Says(query, "Which of these two walks is the one with more shade in the afternoon?")
    rejected = mine(QueriesConfig(model="any", target=2, round_size=2, max_rounds=1), engine).tables.get(
        "rejected"
    )
    assert (rejected["reason"].to_list() if rejected is not None and len(rejected) else [None]) == [reason]


def test_a_build_that_accepts_nothing_says_which_filter_took_all() -> None:
    built = mine(QueriesConfig(model="any", target=2, round_size=4, max_rounds=1), Says("tiny"))
    assert len(built.tables["default"]) == 0 and set(built.tables["rejected"]["reason"]) == {"too_short"}
    assert "too_short dropped 4 of 4" in account(built.ledger)


def no_how(drop: str = "STARTS_WITH(query, 'How')", name: str = "no_how", **values: str) -> UserFilter:
    return UserFilter(name=name, description="A question that asks how is not wanted.", drop=drop, **values)


LINES = ("How do I keep basil alive indoors?", "tiny", "Which of these two walks has more shade at noon?")


def test_a_user_s_filter_drops_candidates_after_the_text_filters() -> None:
    built = mine(QueriesConfig(model="any", target=1, round_size=3, filters=(no_how(),)), Says(*LINES))
    assert texts(built) == [LINES[2]]
    assert built.tables["rejected"].select("query", "reason").rows() == [
        (LINES[0], "no_how"),
        (LINES[1], "too_short"),
    ]
    names = [entry.filter for entry in built.ledger]
    assert names.index("too_short") < names.index("no_how") < names.index("duplicate")
    entry = built.ledger[names.index("no_how")]
    assert (entry.unit, entry.n_in, entry.kept, entry.dropped) == ("query", 2, 1, {"no_how": 1})
    assert (entry.source, entry.params) == ("user filter", {"drop": "STARTS_WITH(query, 'How')"})


def test_what_a_user_s_filter_drops_is_no_shot_and_nothing_is_compared_with_it() -> None:
    again = mine(
        QueriesConfig(model="any", target=2, round_size=3, max_rounds=2, filters=(no_how(),)), Says(*LINES)
    )
    reasons = again.tables["rejected"].filter(query=LINES[0])["reason"].to_list()
    assert reasons == ["no_how", "no_how"], "the second would be a duplicate, had the first been accepted"


def test_a_user_s_function_sees_the_columns_of_a_query(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def long(query, length, finish_reason):\n    return len(query) == length > 40\n")
    longest = UserFilter(name="long", description="Too long.", python=f"{file}:long", unit="query")
    built = mine(QueriesConfig(model="any", target=1, round_size=3, filters=(longest,)), Says(*LINES))
    assert texts(built) == [LINES[0]]
    pins = BUILDER.pins(QueriesConfig(model="any", filters=(longest,)), FakeEngine())
    assert set(pins["filters"]) == {"long"} and len(pins["filters"]["long"]) == 64


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ((no_how("response = 'x'"),), r"no_how: no column 'response'; columns of a query: query"),
        ((no_how(unit="pair"),), r"no_how: unit 'pair': queries filters by query"),
        *(
            ((no_how(name=name),), rf"another filter is named '{name}'")
            for name in ("failed", "too_short", "not_novel", "target_reached")
        ),
        ((no_how(), no_how()), r"another filter is named 'no_how'"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_before_a_model_is_asked(
    filters: tuple[UserFilter, ...], why: str
) -> None:
    with pytest.raises(InputError, match=rf"^queries\.filters.*{why}"):
        BUILDER.pins(QueriesConfig(model="any", filters=filters), FakeEngine())


def test_a_filter_is_another_recipe_and_the_card_says_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    prints = set()
    for version, filters in (("0.1.0", ()), ("0.2.0", (no_how(),))):
        preset = with_settings(fake_tiny(), "queries", target=5, filters=filters)
        manifest = BuildRun(store, version, preset, FakeEngine()).build(BUILDER)[-1].manifest
        assert verify(store, manifest.ref) == []
        prints.add(manifest.fingerprint)
        assert ("A question that asks how" in (store.path(manifest.ref) / "README.md").read_text()) == bool(
            filters
        )
    assert len(prints) == 2


def test_a_commit_is_part_of_the_name_of_the_model() -> None:
    with pytest.raises(InputError, match=r"queries\.revision"):
        presets.load("tiny", assignments=["queries.revision=main"])
