"""A store and its artifacts as a notebook shows them."""

import pytest

from almost_data.cards.markdown import clean
from almost_data.errors import InputError
from almost_data.store.store import Store
from almost_data.viewer.tables import html_table
from tests.markup import NASTY


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


def test_reprs_are_one_line_and_tables_are_escaped(fake_store: Store) -> None:
    artifact = fake_store["comparisons"]
    for value in (fake_store, artifact, artifact.manifest, artifact.view(5)):
        assert len(repr(value)) < 200
    assert repr(artifact) == "<comparisons@0.1.0: dataset, 75 rows>"
    assert "comparisons@0.1.0" in fake_store._repr_html_()
    assert "too_short" in artifact.ledger._repr_html_() and "rejected" in artifact._repr_html_()
    for text in map(clean, NASTY):
        assert html_table([text], [[text]]).count("<") == html_table(["a"], [["a"]]).count("<")
