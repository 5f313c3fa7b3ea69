"""A store and its artifacts as a notebook shows them."""

import shutil
from pathlib import Path

import pytest

from almost_data.cards.markdown import clean
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run.build import BuildRun
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


def test_samples_and_dropped_rows_are_frames_with_texts(fake_store: Store) -> None:
    assert len(fake_store.sample("comparisons", 5, longer="chosen")) == 5
    dropped = fake_store.dropped("comparisons", "too_short")
    assert set(dropped["reason"]) == {"too_short"} and dropped["response"].null_count() == 0
    assert all(column.null_count() < len(column) for column in dropped)


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
