"""The card of a builder without a template of its own: complete, inert, no claim of the paper."""

from collections.abc import Mapping

import polars as pl
import pytest

from almost_data.cards import card, figures
from almost_data.cards.front_matter import front_matter
from almost_data.datasets.builder import Builder, Built, Figures, Parents, Progress, pin_model
from almost_data.datasets.config import Config
from almost_data.datasets.filters import Filter
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.tables import QUERY_ID, REASON, Table, frame, integer, last_turn, string
from almost_data.generation import Generator
from almost_data.generation.fake import FakeEngine
from almost_data.models import Model
from almost_data.run.build import BuildRun
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.markup import NASTY, Page, assert_inert, headings, spoil
from tests.settings import fake_tiny


class ShoutConfig(Config, frozen=True, kw_only=True):
    mark: str = "!"
    max_chars: int = 60


TABLES = {
    "default": Table(
        "one shouted query a row",
        ("query_id",),
        (QUERY_ID, string("text", "the query in capitals", "WHY?!"), integer("length", "characters", 5)),
    ),
    "rejected": Table("one dropped query a row", ("query_id",), (QUERY_ID, REASON)),
}


def build(config: ShoutConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    queries = parents["queries"]("default").select("query_id", last_turn("prompt")).collect().rows()
    long = {query_id for query_id, query in queries if len(query) > config.max_chars}
    kept = [
        {"query_id": query_id, "text": query.upper() + config.mark, "length": len(query)}
        for query_id, query in queries
        if query_id not in long
    ]
    rule = Filter("too_long", "query", "A long query cannot be shouted.", "test")
    dropped = [{"query_id": query_id, "reason": rule.name} for query_id in long]
    rows = {"default": frame(TABLES["default"], kept), "rejected": frame(TABLES["rejected"], dropped)}
    return Built(rows, [rule.entry("shouting", len(queries), len(kept))], {})


def draw(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    yield "funnel", figures.funnel(manifest, ["query"])
    shouted, axes = figures.new_figure(2)
    axes.hist(tables["default"]["length"])
    yield "shout_lengths", shouted


SHOUTS = Builder(
    name="shouts",
    doc="Queries of another dataset in capital letters.",
    config=ShoutConfig,
    tables=TABLES,
    parents=("queries",),
    build=build,
    pins=lambda config, generator: {"resolved": {"shouter": pin_model(Model("fake/shouter", "1"))}},
    tags=("shouting",),
    figures=draw,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("shouts") / "build")
    preset = fake_tiny("queries.target=20").with_config("shouts", ShoutConfig(mark="?!"))
    BuildRun(store, "0.1.0", preset, FakeEngine()).build(SHOUTS)
    return store


def test_the_generic_card_is_complete(store: Store) -> None:
    manifest = store.manifest("shouts@0.1.0")
    assert verify(store, manifest.ref) == []
    text = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    page = Page(text)
    assert page.open == [] and page.headings == [
        *("shouts 0.1.0", "How it was made", "Figures", "Reference"),
    ]
    assert SHOUTS.doc in text and "Not real data" in text and "python -m almost_data build" in text
    assert page.table("config")[1][2:] == [
        f"{manifest.counts['default'].get(s, 0)}" for s in ("train", "test")
    ]
    assert [line[0] for line in page.table("column")[1:]] == TABLES["default"].names
    assert page.table("model")[1] == ["shouter", "fake/shouter", "1"]
    assert page.table("setting")[1:] == [["mark", "?!"], ["max_chars", "60"]]
    assert page.table("stage")[1][:2] == ["shouting (queries)", "too_long"]
    assert ["shouts.mark", "!", "?!"] in [line for table in page.tables for line in table]
    assert [line[0] for line in page.table("dataset")[1:]] == ["shouts@0.1.0", "queries@0.1.0"]
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert images == ["plots/funnel.png", "plots/shout_lengths.png"]
    columns = {line[1] for line in page.table("")[1:] if line[0] == "text"}
    assert len(columns) == 2 and columns <= set(store.scan(manifest.ref).collect()["text"])


def test_it_claims_nothing_of_the_papers(store: Store) -> None:
    text = (store.path("shouts@0.1.0") / "README.md").read_text("utf-8")
    head = front_matter(text)
    assert (head["pretty_name"], head["tags"]) == ("shouts", ["shouting", "almost_data"])
    assert "ALMoST" not in text and "arxiv" not in text.lower() and "paper" not in text


def test_a_builder_without_filters_models_and_figures_has_a_card(store: Store) -> None:
    manifest = store.manifest("shouts@0.1.0")
    bare = spoil(manifest, "x", [])
    bare.config.pop("resolved")
    tables = {config: store.scan(manifest.ref, config).collect() for config in store.configs(manifest.ref)}
    text = card.render(SHOUTS, bare, tables, [], [])
    assert "No filter was applied." in text and "![" not in text and Page(text).open == []


@pytest.mark.parametrize("nasty", NASTY)
def test_hostile_text_is_inert(store: Store, nasty: str) -> None:
    manifest = store.manifest("shouts@0.1.0")
    rows = store.scan(manifest.ref).collect().with_columns(text=pl.lit(nasty))
    hostile = spoil(manifest, nasty, manifest.ledger)
    hostile.config["settings"][nasty] = nasty
    text = card.render(SHOUTS, hostile, {"default": rows}, [], [])
    page = assert_inert(text, headings("dataset", "shouts 0.1.0"))
    assert "img" not in {tag for tag, _ in page.tags}
