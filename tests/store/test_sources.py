"""A word names an artifact of the store, else a file or folder, else a Hub dataset."""

import json
from pathlib import Path

import pytest

import almost_data
from almost_data.errors import InputError
from almost_data.store.sources import stored_ref
from almost_data.store.store import Store
from tests.command import run as cli

PAIR = json.dumps({"prompt": "Why?", "chosen": "Because of it.", "rejected": "No."}) + "\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of comparisons 1.0.0, beside the folders `comparisons`, `mine` and the file `pairs.jsonl`."""
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "comparisons", tmp_path / "mine"):
        folder.mkdir()
        (folder / "pairs.jsonl").write_text(PAIR, "utf-8")
    (tmp_path / "pairs.jsonl").write_text(PAIR, "utf-8")
    store = Store("build")
    almost_data.import_preferences(store, "mine", "1.0.0")
    return store


@pytest.mark.parametrize(
    ("source", "ref"),
    [
        ("comparisons", "comparisons@1.0.0"),
        ("comparisons@1.0.0", "comparisons@1.0.0"),
        ("./comparisons", None),
        ("mine", None),
        ("pairs.jsonl", None),
        ("missing.jsonl", None),
        ("ORG/NAME", None),
        ("ORG/NAME@v1.0.0", None),
    ],
)
def test_the_store_comes_before_the_disk_and_the_disk_before_the_hub(
    store: Store, source: str, ref: str | None
) -> None:
    assert stored_ref(store, source) == ref


@pytest.mark.parametrize("source", ["mind", "comparison", "comparisons@2.0.0"])
def test_a_name_that_is_nowhere_is_one_error(store: Store, source: str) -> None:
    with pytest.raises(InputError, match=r"comparisons.*no file or folder has that name either"):
        stored_ref(store, source)


@pytest.mark.parametrize(
    "verb", ["view", "audit", "eval preference --model baseline:longest --split train --dataset"]
)
def test_verbs_that_read_files_take_a_folder_by_its_name(store: Store, verb: str) -> None:
    for source in ("mine", "pairs.jsonl", "comparisons", "./comparisons"):
        assert cli(*verb.split(), source).returncode == 0, source
    missing = cli(*verb.split(), "mind")
    assert missing.returncode == 2 and "no file or folder has that name either" in missing.stderr


@pytest.mark.parametrize("verb", ["sample", "show", "diff", "lineage", "verify", "export -o x.csv"])
@pytest.mark.parametrize("source", ["mine", "pairs.jsonl", "./mine"])
def test_verbs_of_the_store_say_what_to_type_for_a_file(store: Store, verb: str, source: str) -> None:
    done = cli(*verb.split(), source)
    assert done.returncode == 2
    assert f"`import` makes a dataset of it, and `view {source}` shows it" in done.stderr


def test_a_folder_of_the_store_is_named_by_its_reference(store: Store) -> None:
    done = cli("sample", "build/comparisons/1.0.0/")
    assert "'build/comparisons/1.0.0/' is not a reference: write comparisons@1.0.0" in done.stderr


def test_an_import_of_what_is_in_the_store_says_so(store: Store) -> None:
    done = cli("import", "preferences", "comparisons@1.0.0", "--version", "2.0.0")
    assert done.returncode == 2 and "comparisons@1.0.0: a dataset of the store: give a file" in done.stderr
    done = cli("view", "comparisons", "--columns", "prompt=question")
    assert done.returncode == 2 and "a dataset of the store: leave out --columns" in done.stderr
