"""A card renders for every dataset, says what the manifest says, and nothing hostile in it becomes markup."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import msgspec
import polars as pl
import pytest

from almost_data.cards import card, figures, markdown
from almost_data.cards.front_matter import front_matter, viewer
from almost_data.datasets.builder import Builder
from almost_data.datasets.ledger import Count, Entry
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.tables import arrow_schema, stored_configs
from almost_data.errors import Defect, InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, importing, presets
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import schema
from tests.jsonl import jsonl
from tests.markup import NASTY, Page, assert_inert, headings, spoil
from tests.settings import fake, fake_tiny

NAMES = ("queries", "responses", "comparisons")
Rendered = tuple[Builder, Manifest, dict[str, pl.DataFrame], list[str], list[Manifest]]


@pytest.fixture(scope="session")
def store(fake_store: Store) -> Store:
    return fake_store


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Hostile queries and responses from files with a hostile name, and comparisons made from them."""
    store = Store(tmp_path_factory.mktemp("imported"))
    folder = tmp_path_factory.mktemp("files")
    queries = folder / "a`|<img src=x>.jsonl"
    jsonl(queries, ({"query": text} for text in (*NASTY, *NASTY[:2])))
    importing.import_queries(store, str(queries), "0.1.0")
    responses = folder / "![b](http:).jsonl"
    texts = zip(NASTY, reversed(NASTY), strict=True)
    rows = [{"prompt": p, "good": f"{q} {'long ' * 20}!", "bad": f"{'x' * 60} {q}."} for p, q in texts]
    jsonl(responses, [*rows, rows[0]])
    importing.import_responses(store, str(responses), ["good", "bad"], "0.1.0")
    run = build.BuildRun(store, "0.1.0", fake_tiny('comparisons.checks="paper"'), FakeEngine())
    run.build("comparisons")
    return store


def inputs(store: Store, name: str) -> Rendered:
    ref = f"{name}@0.1.0"
    manifest = store.manifest(ref)
    tables = {config: store.scan(ref, config).collect() for config in store.configs(ref)}
    paths = sorted(f"plots/{file.name}" for file in (store.path(ref) / "plots").glob("*.png"))
    return schema.builder(name), manifest, tables, paths, store.ancestors(manifest)


def text_of(store: Store, name: str) -> str:
    return (store.path(f"{name}@0.1.0") / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_card_stands_on_its_own_manifest(store: Store, name: str) -> None:
    text = text_of(store, name)
    manifest = store.manifest(f"{name}@0.1.0")
    assert verify(store, manifest.ref) == []
    assert text == card.render(*inputs(store, name)) == card.render(*inputs(store, name))
    assert "Not real data" in text and "python -m almost_data" in text and manifest.digest[:16] in text
    builder, _, tables, *_ = inputs(store, name)
    for figure in figures.as_files(builder.figures(manifest, tables)):
        assert f"]({figure})" in text


@pytest.mark.parametrize("which", ["store", "imported"])
@pytest.mark.parametrize("name", NAMES)
def test_datasets_reads_what_the_yaml_says(
    which: str, name: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled_store: Store = request.getfixturevalue(which)
    manifest = filled_store.manifest(f"{name}@0.1.0")
    head = front_matter(text_of(filled_store, name))
    assert {key: head[key] for key in ("configs", "dataset_info")} == viewer(manifest)
    folder = str(filled_store.path(manifest.ref))
    for config, by_split in manifest.counts.items():
        want = datasets.Features.from_arrow_schema(arrow_schema(manifest.table(config)))
        builder = datasets.load_dataset_builder(folder, config, cache_dir=str(tmp_path))
        assert builder.info.features == want
        assert {split: info.num_examples for split, info in builder.info.splits.items()} == by_split
        loaded = datasets.load_dataset(
            folder, config, cache_dir=str(tmp_path), verification_mode="basic_checks"
        )
        assert {split: len(rows) for split, rows in loaded.items()} == by_split
        stored = sum(file.stat().st_size for file in files_of(filled_store, manifest, config))
        assert builder.info.download_size == stored > 0
        for split, rows in loaded.items():
            assert builder.info.splits[split].num_bytes == pytest.approx(rows.data.nbytes, rel=0.05, abs=200)
    assert "default" in datasets.get_dataset_config_names(folder)[:1]
    assert "malformed" not in caplog.text


def files_of(store: Store, manifest: Manifest, config: str) -> list[Path]:
    parts = stored_configs(manifest.tables, config)
    return [file for part in parts for file in (store.path(manifest.ref) / "data" / part).glob("*.parquet")]


def test_default_of_responses_names_every_responder_once(store: Store) -> None:
    manifest = store.manifest("responses@0.1.0")
    default, *others = viewer(manifest)["configs"]
    assert default["default"] is True and not any("default" in config for config in others)
    for files in default["data_files"]:
        one_each = [f["path"] for o in others for f in o["data_files"] if f["split"] == files["split"]]
        assert files["path"] == one_each


def test_front_matter_has_what_is_known_and_no_more(store: Store) -> None:
    builder, manifest, *rest = inputs(store, "comparisons")
    head = front_matter(card.render(builder, manifest, *rest))
    assert head["language"] == "en" and "license" not in head and head["size_categories"] == ["n<1K"]
    changed = replace(
        manifest, config=manifest.config | {"card": {"license": "mit\n---\n# x", "language": None}}
    )
    text = card.render(builder, changed, *rest)
    head = front_matter(text)
    assert head["license"] == "mit\n---\n# x" and "language" not in head
    assert "No licence was given" not in text and "The terms of the models that wrote the text" in text
    many = replace(manifest, counts={"default": {"train": 9_000, "test": 1_000}})
    assert front_matter(card.render(builder, many, *rest))["size_categories"] == ["10K<n<100K"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "# Card", "---\na: 1\n# no end", "---\n- a\n---\n", " ---\na: 1\n---"),
        *("---\na: [\n---\n", "---\na: 2020-02-31\n---\n"),
    ],
)
def test_front_matter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        front_matter(text)


def test_a_variable_without_a_value_fails(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queries.md.jinja").write_text("{{ manifest.ref }} {{ nobody_gave_this }}")
    monkeypatch.setattr(card, "FOLDERS", (tmp_path,))
    with pytest.raises(Defect, match=r"card queries\.md\.jinja: .* 'nobody_gave_this' is undefined"):
        card.render(*inputs(store, "queries"))


def test_a_forgotten_filter_escapes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries.md.jinja").write_text(
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(manifest.created) }}"
    )
    monkeypatch.setattr(card, "FOLDERS", (tmp_path,))
    builder, manifest, *rest = inputs(store, "queries")
    text = card.render(builder, replace(manifest, created="<b>*x*</b> [a](b)"), *rest)
    assert Page(text).tags == [("p", {})] and Page(text).text == "<b>*x*</b> [a](b)\n"


@pytest.mark.parametrize("name", NAMES)
def test_filter_table_is_the_ledger(store: Store, name: str) -> None:
    manifest = store.manifest(f"{name}@0.1.0")
    _, *lines = Page(text_of(store, name)).table("stage")
    assert [[line[0], line[1], *line[3:]] for line in lines] == [
        [e.heading, e.filter, f"{e.n_in:,}", f"{e.kept:,}", f"{sum(e.dropped.values()):,}", f"{e.failed:,}"]
        for e in manifest.ledger
    ]
    assert all(
        e.description.replace("`", "") in line[2] for e, line in zip(manifest.ledger, lines, strict=True)
    )


@pytest.mark.parametrize("which", ["store", "imported"])
def test_pair_matrix_sums_to_the_comparisons(which: str, request: pytest.FixtureRequest) -> None:
    filled_store: Store = request.getfixturevalue(which)
    manifest = filled_store.manifest("comparisons@0.1.0")
    _, *lines = Page(text_of(filled_store, "comparisons")).table("chosen ↓ rejected →")
    numbers = [int(number.replace(",", "")) for line in lines for number in line[1:] if number != "–"]
    assert sum(numbers) == sum(manifest.counts["default"].values()) == manifest.diagnostics["comparisons"]


def test_the_first_screen_shows_rows_of_two_queries_and_how_to_load_them(store: Store) -> None:
    text = text_of(store, "comparisons")
    first_screen = text.split("## What to watch")[0]
    rows = store.scan("comparisons@0.1.0").collect().rows(named=True)
    prompts = [line[1] for line in Page(text).table("")[1:] if line[0] == "prompt"]
    by_id = [row["prompt"][-1]["content"] for row in sorted(rows, key=lambda row: row["query_id"])]
    assert len(set(prompts)) == 2 and set(prompts) <= set(by_id) and prompts != by_id[:2]
    for part in ("**Verdicts**: ", "**Models**: ", "**Licence**: ", "load_dataset(", "plots/funnel.png"):
        assert part in first_screen
    assert "<details>" not in first_screen


def test_figures_are_described_in_numbers(store: Store) -> None:
    manifest = store.manifest("comparisons@0.1.0")
    alts = {a["src"]: a["alt"] or "" for tag, a in Page(text_of(store, "comparisons")).tags if tag == "img"}
    first, last = manifest.ledger[0], manifest.ledger[-1]
    assert f"{first.n_in:,} in" in alts["plots/funnel.png"]
    assert f"{last.kept:,} after {last.filter}" in alts["plots/funnel.png"]
    text = manifest.diagnostics["text"]
    assert f"{text['always_longer']:.1%}" in alts["plots/shortcuts.png"]
    assert f"{text['length_gap']['q50']:+,.0f} characters" in alts["plots/length_gap.png"]


def test_responders_are_described_with_blanks_between_words(store: Store) -> None:
    for name, follows in (("comparisons", "each query"), ("responses", "the same queries")):
        sentence = r"\*responders\* \(a language model [^)]*\) answered " + follows
        assert re.search(sentence, text_of(store, name)), name


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_described_in_numbers(store: Store, name: str) -> None:
    alts = [a["alt"] or "" for tag, a in Page(text_of(store, name)).tags if tag == "img"]
    assert alts and all(re.search(r"\d", alt) for alt in alts), alts


def test_missing_splits_and_configs_are_named(store: Store) -> None:
    builder, manifest, tables, *rest = inputs(store, "comparisons")
    counts = {"default": {"train": 50}, "rejected": {"train": 1, "test": 1}}
    text = card.render(builder, replace(manifest, counts=counts), tables, *rest)
    assert "config `rejected_responses`" in text and "split `test` of config `default`" in text
    assert "split `test` of config `rejected`" not in text
    only_test = card.render(builder, replace(manifest, counts={"default": {"test": 1}}), tables, *rest)
    assert 'split="test"' in only_test and 'split="train"' not in only_test


def test_settings_off_the_default_are_listed(store: Store) -> None:
    listed = {line[0]: line[1:] for line in Page(text_of(store, "comparisons")).table("setting")[1:]}
    assert listed["queries.temperature"] == ["1.2", "0.9"]
    assert "responses.temperature" not in listed


def test_probes_are_in_the_ladder_table_without_a_rank(tmp_path: Path) -> None:
    imported = Store(tmp_path)
    preset = fake(presets.load("almost", limit=3))
    build.BuildRun(imported, "0.1.0", preset, FakeEngine()).build("comparisons")
    for name in ("responses", "comparisons"):
        _, *lines = Page(text_of(imported, name)).table("rank")
        assert [line[0] for line in lines] == ["0", "1", "2", "3", "4", "probe", "probe", "probe"]
        assert lines[0][6] == "768" and lines[5][1] == "fake-7B-Faithful-3shot"
    (imported.path("responses@0.1.0") / "manifest.json").unlink()
    assert "is not in this store" in card.render(*inputs(imported, "comparisons"))


@pytest.mark.parametrize("name", NAMES)
def test_imported_data_have_cards(imported: Store, name: str) -> None:
    text = text_of(imported, name)
    assert verify(imported, f"{name}@0.1.0") == []
    assert "imported from" in text and "Not real data" not in text and "Engine:" not in text
    assert "ALMoST" not in text and "paper's" not in text and "almost" not in front_matter(text)["tags"]
    names = (
        "not known, as the text was imported" if name == "queries" else "`bad`, `good`, as the import names"
    )
    assert f"**Models**: {names}" in text
    assert ("Only `already_chosen` looks ahead" in text) == (name == "comparisons")


def hostile_inputs(store: Store, imported: Store) -> Iterator[Rendered]:
    """Every place where text from outside can stand, with every nasty string in it."""
    for name in NAMES:
        yield inputs(imported, name)
    entry = Entry(
        "s", "f", "pair", "d", {"p": 1}, "src", 3, 2, {"r": 1}, by_pair={"a > b": Count(3, 2, {"r": 1})}
    )
    for place, nasty in enumerate(NASTY):
        bad = dict.fromkeys(("stage", "filter", "description", "source"), nasty)
        ledger = [msgspec.structs.replace(entry, **bad, params={nasty: nasty}, dropped={nasty: 1})]
        for name in sorted({"comparisons", NAMES[place % 3]}):
            builder, manifest, tables, paths, ancestors = inputs(store, name)
            spoiled = [spoil(ancestor, nasty, ancestor.ledger) for ancestor in ancestors]
            yield builder, spoil(manifest, nasty, ledger), tables, paths, spoiled


def test_hostile_text_is_inert(store: Store, imported: Store) -> None:
    for builder, manifest, tables, paths, ancestors in hostile_inputs(store, imported):
        text = card.render(builder, manifest, tables, paths, ancestors)
        title = "" if "# ALMoST" in text else f"{manifest.name.capitalize()} 0.1.0"
        page = assert_inert(text, headings(manifest.name, title), ["https://arxiv.org/abs/2305.13735"])
        assert {attributes["src"] for tag, attributes in page.tags if tag == "img"} <= {*paths}


@pytest.mark.parametrize("text", NASTY)
def test_filters_keep_the_words(text: str) -> None:
    """What is escaped is still there to read: markup is shown, not cut out."""
    words = re.findall(r"[a-z]{3,}", markdown.clean(text))
    table = f"| x |\n|---|\n| {markdown.cell(text, 10**6)} |"
    for part in (markdown.prose(text), markdown.fenced(text, 10**6), table):
        page = Page(f"---\n---\n{part}")
        assert all(word in page.text for word in words)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (markdown.n(1234567), "1,234,567"),
        (markdown.n(1.5833), "1.58"),
        (markdown.n(371.66), "372"),
        (markdown.n(None), "n/a"),
        (markdown.pct(0.7272), "72.7%"),
        (markdown.pct(None), "n/a"),
        (markdown.code(None), "`null`"),
        (markdown.code(""), "*empty*"),
        (markdown.code("a`b"), "`` a`b ``"),
        (markdown.cell("a|b"), "`a\\|b`"),
        (markdown.cell("x" * 90, 10), "`xxxxxxx...`"),
        (markdown.prose("- a_b, `c`: see www.d.example"), "\\- a\\_b, `c`: see `www.d.example`"),
    ],
)
def test_formats(value: Any, want: str) -> None:
    assert value == want


def test_plain_takes_names_only() -> None:
    assert markdown.plain("comparisons@0.1.0-beta") == "comparisons@0.1.0-beta"
    with pytest.raises(ValueError, match="cannot appear"):
        markdown.plain("a b")


def replace(manifest: Manifest, **changes: Any) -> Manifest:
    return msgspec.structs.replace(manifest, **changes)


def test_the_cost_of_all_that_it_was_made_from_is_added_up(store: Store, imported: Store) -> None:
    def cost(of: Store) -> str:
        return text_of(of, "comparisons").split("<summary>Cost</summary>")[1]

    manifests = [store.manifest(f"{name}@0.1.0") for name in NAMES]
    total = sum(usage["completion_tokens"] for manifest in manifests for usage in manifest.usage.values())
    rows = sum(manifests[-1].counts["default"].values())
    assert total > rows > 0
    assert f"In all {total:,} tokens" in cost(store)
    assert f"{total / rows:,.0f} tokens and" in cost(store)
    for name in manifests[1].usage:
        assert f"`{name}`" in cost(store)
    assert cost(imported).lstrip().startswith("No model wrote text")


@pytest.mark.parametrize("name", NAMES)
def test_a_list_ends_where_a_paragraph_begins(store: Store, name: str) -> None:
    """Without an empty line between them, a renderer takes the paragraph for the last item's."""
    text = re.sub(r"(?ms)^```.*?^```", "", card.render(*inputs(store, name)).partition("\n---\n")[2])
    assert re.findall(r"(?m)^- .*\n[^-\s<].*", text) == []
