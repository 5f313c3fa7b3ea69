"""A store and its artifacts as a notebook shows them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import almost_data
from almost_data.builders import queries
from almost_data.cards.markdown import clean
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run.build import BuildRun
from almost_data.store.removal import remove
from almost_data.store.samples import with_texts
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.viewer.tables import html_table
from tests.markup import NASTY
from tests.settings import fake_tiny


def test_an_artifact_has_its_rows_card_and_page(fake_store: Store) -> None:
    artifact = fake_store["comparisons"]
    assert artifact.ref == "comparisons@0.1.0"
    assert len(artifact.frame()) == artifact.manifest.rows == 75
    assert {*artifact.frame("rejected")["reason"]} <= {
        reason for entry in artifact.ledger for reason in entry.dropped
    }
    assert artifact.card.startswith("---\n")
    assert artifact.view(10)._repr_html_().startswith("<iframe sandbox")
    with pytest.raises(InputError, match="did you mean 'rejected'"):
        artifact.frame("rejectde")
    with pytest.raises(InputError, match="did you mean 'comparisons'"):
        fake_store["comparison"]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda store: store[0], "0 is not a reference: the store has .*comparisons@0.1.0"),
        (lambda store: store["comparisons"].frame(split="tset"), "no split 'tset' .did you mean 'test'"),
        (lambda store: store["comparisons"].frame("defualt"), "no config 'defualt' .did you mean 'default'"),
        (lambda store: store["comparisons"].frame(3), "no config 3; its configs: default, rejected"),
        (lambda store: store.scan("queries@0.1.0", split=0), "no split 0; its splits: train, test"),
        (lambda store: store.sample("comparisons", longer="chosn"), "did you mean 'chosen'"),
        (lambda store: store.sample("comparisons", longr="chosen"), "did you mean 'longer'"),
        (lambda store: store.sample("comparisons", where=3), "where 3: needs text or none, not a whole"),
        (lambda store: store.sample("comparisons", n="3"), "sample.n '3': give 1 or more"),
        (lambda store: store.dropped("comparisons", "too_shrt"), "did you mean 'too_short'"),
        (lambda store: store["comparisons"].view("3"), "view.n '3': give 1 or more"),
        (lambda store: store.has(3), "'?3'? is not a reference"),
        (lambda store: store.resolve(3), "no 3 under .*: no artifact has that name"),
        (lambda store: store.sample(None), "no None under .*: no artifact has that name"),
        (lambda store: store["comparisons"].view(5).save(3), "view.out 3: name an .html file"),
        (lambda store: almost_data.import_queries(store, ["q.txt"], "1.0.0"), "list is not a file: give"),
        (lambda store: almost_data.import_responses(store, "a.csv", "ab", "1.0.0"), "'ab': give a list"),
        (lambda store: almost_data.import_responses(store, "a.csv", None, "1.0.0"), "None: give a list"),
        (lambda store: almost_data.prepare("fake").build(["queries"]), "give the name of a builder"),
        (lambda store: almost_data.prepare("fake", config="no.toml"), "no.toml: no such file"),
        (lambda store: store.path(3), "'?3'? is not a reference"),
        (lambda store: Store(3), "run.root 3: give the path of a folder"),
        (lambda store: almost_data.verify("build", "a@1.0.0"), r"give almost_data.Store\('build'\)"),
        (lambda store: almost_data.import_queries("b", "q.txt", "1.0.0"), r"give almost_data.Store\('b'\)"),
        (lambda store: almost_data.prepare("fake", limit="3"), "run.limit '3': needs a whole number or none"),
        (lambda store: almost_data.prepare("fake", limt=3), "no setting 'limt' .did you mean 'limit'"),
        (lambda store: almost_data.prepare("fake", preset="tinny"), "did you mean 'tiny'"),
        (lambda store: almost_data.prepare("fake", sources="a@1.0.0"), "needs a list, not text"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_input_error(
    fake_store: Store, call: Callable[[Any], object], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        call(fake_store)


def test_settings_may_be_in_a_file_that_is_named_by_text(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("queries.target = 7\n")
    run = almost_data.prepare("fake", config=str(file), root=str(tmp_path / "build"))
    assert run.preset.settings(queries.BUILDER).target == 7


def test_an_artifact_that_was_deleted_meanwhile_says_so(copy: Store) -> None:
    artifact = copy["comparisons"]
    remove(copy, [artifact.ref])
    for read in (lambda: artifact.card, lambda: artifact.manifest, artifact.frame, artifact.view):
        with pytest.raises(InputError, match=r"no comparisons@0\.1\.0 under"):
            read()


def test_dropped_rows_are_all_of_them_unless_a_number_is_given(fake_store: Store) -> None:
    artifact = fake_store["comparisons"]
    dropped = sum(sum(entry.dropped.values()) for entry in artifact.ledger)
    assert len(fake_store.dropped("comparisons")) == dropped > 7
    assert len(fake_store.dropped("comparisons", n=7)) == 7
    assert len(fake_store.sample("comparisons", None)) == artifact.manifest.rows
    assert len(fake_store.sample("comparisons", 5, longer="chosen")) == 5
    too_short = fake_store.dropped("comparisons", "too_short")
    assert set(too_short["reason"]) == {"too_short"} and too_short["response"].null_count() == 0
    assert all(column.null_count() < len(column) for column in too_short)


def test_an_import_takes_a_path(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Why is the sky blue?\n", "utf-8")
    store = Store(tmp_path / "build")
    assert almost_data.import_queries(store, file, "1.0.0").ref == "queries@1.0.0"


def test_a_damaged_artifact_hides_no_other_in_a_notebook(fake_store: Store, tmp_path: Path) -> None:
    shutil.copytree(fake_store.path("queries@0.1.0"), tmp_path / "queries" / "0.1.0")
    (tmp_path / "damaged" / "1.0.0").mkdir(parents=True)
    (tmp_path / "damaged" / "1.0.0" / "manifest.json").write_text("{}")
    table = Store(tmp_path)._repr_html_()
    assert "queries@0.1.0" in table and table.endswith("<p>damaged: damaged@1.0.0</p>")


def test_reprs_are_one_line_and_tables_are_escaped(fake_store: Store) -> None:
    artifact = fake_store["comparisons"]
    for value in (fake_store, artifact, artifact.manifest, artifact.view(5)):
        assert len(repr(value)) < 200
    assert repr(artifact) == "<comparisons@0.1.0: dataset, 75 rows>"
    assert "comparisons@0.1.0" in fake_store._repr_html_()
    assert "too_short" in artifact.ledger._repr_html_() and "rejected" in artifact._repr_html_()
    for text in map(clean, NASTY):
        assert html_table([text], [[text]]).count("<") == html_table(["a"], [["a"]]).count("<")


def test_dropped_rows_may_be_stored_with_their_texts_or_by_ids(fake_store: Store, tmp_path: Path) -> None:
    """The same rows, and in the files of small sets the texts that are else joined from the responses."""
    by_ids = Store(tmp_path / "build")
    settings = fake_tiny("comparisons.drops_with_text=false")
    BuildRun(by_ids, "0.1.0", settings, FakeEngine()).build("comparisons")
    ref = "comparisons@0.1.0"
    assert verify(by_ids, ref) == [] and "texts are in" in by_ids[ref].card
    assert "texts are in" not in fake_store[ref].card
    assert by_ids[ref].frame().equals(fake_store[ref].frame())
    for config, columns in (
        ("rejected", ["prompt", "chosen", "rejected"]),
        ("rejected_responses", ["response"]),
    ):
        rows = fake_store[ref].frame(config)
        assert rows.select(by_ids[ref].frame(config).columns).equals(by_ids[ref].frame(config))
        assert set(columns) <= set(rows.columns) and not any(rows.select(columns).null_count().row(0))
    keys = ["query_id", "reply_id"]
    stored = fake_store[ref].frame("rejected_responses").select(*keys, "response")
    joined = with_texts(by_ids, by_ids.manifest(ref), "rejected_responses").collect()
    assert stored.sort(keys).equals(joined.select(stored.columns).sort(keys))
