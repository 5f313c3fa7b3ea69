"""A builder that is not of the package, given as an object: its reward model, its section of a preset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from almost_data import scoring
from almost_data.builders.queries import BUILDER as QUERIES
from almost_data.datasets.builder import Builder, Built, Estimate, Parents, Progress, RewardModel, Work
from almost_data.datasets.config import Config, Positive
from almost_data.datasets.filters import Filter
from almost_data.datasets.tables import QUERY_ID, REASON, Table, frame, last_turn, number
from almost_data.errors import InputError
from almost_data.generation import Generator
from almost_data.generation.fake import FakeEngine
from almost_data.run import cost, presets
from almost_data.run.build import BuildRun
from almost_data.run.presets import Preset
from almost_data.scoring import Dialogue, Scorer
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.settings import fake


class JudgedConfig(Config, frozen=True, kw_only=True):
    judge: str = "fake/judge"
    least: float = 0.0
    limit: Positive | None = None


RATING = number("rating", "the judge's rating", 0.5)
TABLES = {
    "default": Table("one query a row", ("query_id",), (QUERY_ID, RATING)),
    "rejected": Table("one dropped query a row", ("query_id",), (QUERY_ID, RATING, REASON)),
}
LOW = Filter("low", "query", "The judge rates it low.", "test")


def build(
    config: JudgedConfig, parents: Parents, generator: Generator, progress: Progress, *, judge: Scorer
) -> Built:
    queries = dict(
        parents["queries"]("default").select("query_id", last_turn("prompt")).collect().iter_rows()
    )
    ratings = {
        score.id: score.value
        for score in judge.score(Dialogue.of(id, query, query) for id, query in queries.items())
    }
    rated = [{"query_id": id, "rating": value} for id, value in ratings.items()]
    kept = [row for row in rated if row["rating"] >= config.least]
    rejected = [row | {"reason": "low"} for row in rated if row["rating"] < config.least]
    tables = {"default": frame(TABLES["default"], kept), "rejected": frame(TABLES["rejected"], rejected)}
    return Built(tables, [LOW.entry("rating", len(rated), len(kept))], {})


def estimate(config: JudgedConfig, parents: Mapping[str, Estimate]) -> Estimate:
    rows = parents["queries"].rows
    return Estimate(rows, (Work("judged", config.judge, "score", rows, 30),))


JUDGED = Builder(
    name="judged-queries2",
    doc="Queries with a rating.",
    config=JudgedConfig,
    tables=TABLES,
    parents=("queries",),
    build=build,
    uses_engine=False,
    reward_models=lambda config: {"judge": RewardModel(config.judge, 64)},
    estimate=estimate,
)


def run(root: Path, *assignments: str) -> BuildRun:
    preset = presets.load("tiny", assignments=assignments, builders=[JUDGED])
    return BuildRun(Store(root), "0.1.0", fake(preset), FakeEngine())


def test_its_reward_model_is_pinned_loaded_counted_and_recorded_by_its_own_keyword(tmp_path: Path) -> None:
    manifest = run(tmp_path).build(JUDGED)[-1].manifest
    store = Store(tmp_path)
    assert verify(store, manifest.ref) == []
    pinned: dict[str, Any] = {"id": "fake/judge", "revision": "1"}
    assert manifest.config["reward_models"] == {"judge": pinned} and pinned in manifest.diagnostics["models"]
    rows = sum(store.manifest("queries@0.1.0").counts["default"].values())
    assert manifest.environment["judge"]["scores"] == {"from_journal": 0, "scored": rows}
    [low] = manifest.ledger
    assert low.n_in == rows and low.dropped == {"low": rows - low.kept} and 0 < low.kept < rows
    scorer = scoring.load("fake/judge", max_tokens=64)
    ratings = dict(store.scan(manifest.ref).select("query_id", "rating").collect().iter_rows())
    for id, query in (
        store.scan("queries@0.1.0").select("query_id", last_turn("prompt")).collect().iter_rows()
    ):
        (score,) = scorer.score([Dialogue.of("x", query, query)])
        assert ratings.get(id) == (score.value if score.value >= 0 else None)


def test_the_note_on_a_presets_models_is_for_the_builders_that_ask_them(tmp_path: Path) -> None:
    preset = presets.load("tiny", builders=[JUDGED])
    rows = {"default": frame(TABLES["default"], [{"query_id": "0" * 16, "rating": 1.0}])}
    entry = LOW.entry("rating", 1, 1)

    def count(*_: Any) -> Built:
        return Built(rows, [entry], {})

    without_model = Builder(name="counts", doc="Counts.", config=Config, tables=TABLES, build=count)
    run = BuildRun(Store(tmp_path), "0.1.0", preset, FakeEngine())
    assert run.build(without_model)[-1].manifest.diagnostics["notes"] == []
    assert [preset.note] == run.build("queries")[-1].manifest.diagnostics["notes"]


def test_it_has_a_section_in_a_preset_under_any_name_that_a_builder_can_have(tmp_path: Path) -> None:
    config = run(tmp_path, "judged-queries2.least=-9").preset.settings(JUDGED)
    assert config == JudgedConfig(least=-9)
    with pytest.raises(InputError, match=r"unknown key judged-queries2\.most; known here: judge, least"):
        run(tmp_path, "judged-queries2.most=3")
    with pytest.raises(InputError, match=r"unknown key judged-queries2.*; known here: note"):
        presets.load("tiny", assignments=("judged-queries2.least=1",))


def test_a_preset_without_its_section_gives_its_defaults_and_a_limit_reaches_it() -> None:
    assert Preset().settings(JUDGED) == JudgedConfig()
    assert Preset(limit=3).settings(JUDGED) == JudgedConfig(limit=3)
    with pytest.raises(InputError, match=r"queries: no settings in this preset: .*model is missing"):
        Preset().settings(QUERIES)


def test_a_dry_run_counts_its_work(tmp_path: Path) -> None:
    build_run = run(tmp_path)
    lines = {line.task: line for line in cost.lines(build_run.plan(JUDGED), build_run.store)}
    assert lines["judged"].requests == 40 and lines["judged"].tokens_in == 40 * 30
    assert not tmp_path.joinpath("queries").exists()
