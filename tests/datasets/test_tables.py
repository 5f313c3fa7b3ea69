"""A dataset's tables decide its splits, its files, and what the manifest tells a reader."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest

from almost_data.datasets.builder import Builder, Built
from almost_data.datasets.config import Config
from almost_data.datasets.digest import splits
from almost_data.datasets.filters import Filter
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.tables import Column, Table, frame, integer, string, table_of
from almost_data.errors import Defect, InputError
from almost_data.generation.fake import FakeEngine
from almost_data.run.build import BuildRun
from almost_data.run.presets import Preset
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import schema

NUMBER = integer("number", "which one", 3)
COLUMNS = (
    NUMBER,
    string("author", "who wrote it", "Ada"),
    Column("is_even", "bool", "whether it is even", False),
)
AUTHORS = [f"author {number}" for number in range(40)]


class NoSettings(Config, frozen=True):
    """Nothing to set."""


def rows(count: int = 400) -> list[dict[str, Any]]:
    return [
        {"number": n, "author": AUTHORS[n % len(AUTHORS)], "is_even": None if n % 7 == 0 else n % 2 == 0}
        for n in range(count)
    ]


def build(root: Path, tables: dict[str, Table], built: dict[str, pl.DataFrame]) -> tuple[Store, Manifest]:
    """A dataset of those rows, made by a builder with those tables, and verified."""
    kept = sum(len(rows) for name, rows in built.items() if name != "rejected")
    ledger = [Filter("none", "row", "Nothing is dropped.", "test").entry("all", kept, kept)]
    builder = Builder(
        name="numbers",
        doc="Numbers.",
        config=NoSettings,
        tables=tables,
        uses_engine=False,
        build=lambda config, parents, generator, progress: Built(built, ledger, {}),
    )
    store = Store(root)
    [step] = BuildRun(store, "0.1.0", Preset(), FakeEngine()).build(builder)
    assert verify(store, step.manifest.ref) == []
    return store, step.manifest


def is_test(value: str) -> bool:
    return int(hashlib.sha256(value.encode()).hexdigest()[:8], 16) < 0.05 * 2**32


@pytest.mark.parametrize("key", ["author", "number"])
def test_a_table_splits_by_the_hash_of_the_column_that_it_names(tmp_path: Path, key: str) -> None:
    table = Table("one number a row", ("number",), COLUMNS, split_key=key)
    store, manifest = build(tmp_path, {"default": table}, {"default": frame(table, rows())})
    values = {
        split: set(store.scan(manifest.ref, "default", split).collect()[key].cast(pl.String))
        for split in ("train", "test")
    }
    assert all(values.values()) and not values["train"] & values["test"]
    assert values["test"] == {str(row[key]) for row in rows() if is_test(str(row[key]))}


def test_a_row_without_a_value_of_the_split_key_is_in_train() -> None:
    table = Table("one number a row", ("number",), COLUMNS, split_key="author")
    authors = frame(table, [{"number": 1, "author": None}, {"number": 2, "author": AUTHORS[0]}])
    assert sum(map(len, splits(authors, "author").values())) == 2
    assert 1 in splits(authors, "author")["train"]["number"]


def test_a_query_id_that_is_no_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="query_id 'q1' is not a hash"):
        splits(pl.DataFrame({"query_id": ["29b96e1ccfe1b398", "q1"]}))


def test_a_table_without_a_split_key_is_all_train(tmp_path: Path) -> None:
    table = Table("one number a row", ("number",), COLUMNS, split_key=None)
    store, manifest = build(tmp_path, {"default": table}, {"default": frame(table, rows())})
    assert manifest.counts == {"default": {"train": 400}}
    assert splits(frame(table, []), None) == {}
    assert [file.name for file in store.files(manifest.ref, "default")] == ["train-00000-of-00001.parquet"]


def test_a_bool_column_keeps_true_false_and_null_wherever_it_is_read(tmp_path: Path) -> None:
    table = Table("one number a row", ("number",), COLUMNS, split_key=None)
    store, manifest = build(tmp_path / "build", {"default": table}, {"default": frame(table, rows())})
    values = [row["is_even"] for row in rows()]
    assert store.scan(manifest.ref).sort("number").collect()["is_even"].to_list() == values
    folder = str(store.path(manifest.ref))
    loaded = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path / "cache"))
    by_number = dict(zip(loaded["number"], loaded["is_even"], strict=True))
    assert by_number == dict(enumerate(values)) and loaded.features["is_even"].dtype == "bool"
    changed = frame(table, [row | {"is_even": row["is_even"] is True} for row in rows()])
    assert schema.digest({"default": table}, {"default": changed}) != manifest.digest


def parts(names: Iterable[str]) -> tuple[dict[str, Table], dict[str, pl.DataFrame]]:
    union = Table("one number a row", ("number",), COLUMNS, split_key="author", parts=())
    rejected = Table("one dropped number a row", ("number",), COLUMNS, split_key="author")
    built = {name: frame(union, rows()[place::3]) for place, name in enumerate(names)}
    return {"default": union, "rejected": rejected}, built


def test_a_union_is_its_parts_together_and_is_not_stored(tmp_path: Path) -> None:
    tables, built = parts(("small", "large"))
    store, manifest = build(tmp_path, tables, built | {"rejected": frame(tables["rejected"], rows()[2::3])})
    assert manifest.tables["default"].parts == ("small", "large")
    assert sorted(store.configs(manifest.ref)) == ["large", "rejected", "small"]
    assert not (store.path(manifest.ref) / "data" / "default").exists()
    numbers = {name: set(store.scan(manifest.ref, name).collect()["number"]) for name in manifest.counts}
    assert numbers["default"] == numbers["small"] | numbers["large"]
    assert not numbers["default"] & numbers["rejected"] and not numbers["small"] & numbers["large"]
    for split, count in manifest.counts["default"].items():
        assert count == manifest.counts["small"][split] + manifest.counts["large"][split]


def test_a_manifest_names_the_parts_of_its_union_and_has_no_other_config(tmp_path: Path) -> None:
    tables, built = parts(("small", "large"))
    store, manifest = build(tmp_path, tables, built)
    # A builder's own table takes any name as a part; the manifest's knows which there are.
    assert table_of(tables, "huge") is tables["default"]
    for config in ("huge", "../rejected"):
        with pytest.raises(InputError, match=rf"numbers@0\.1\.0 has no config '{config}'"):
            store.scan(manifest.ref, config)


def test_rows_without_a_table_are_refused(tmp_path: Path) -> None:
    table = Table("one number a row", ("number",), COLUMNS, split_key=None)
    whole = frame(table, rows())
    with pytest.raises(Defect, match="rows of 'extra', which is not a table of the builder: default"):
        build(tmp_path, {"default": table}, {"default": whole, "extra": whole})


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"other": Table("", ("number",), COLUMNS, "number")}, "the first table is `default`"),
        ({"default": Table("", ("number",), COLUMNS)}, "no column 'query_id', by which rows are split"),
        ({"default": Table("", ("nothing",), COLUMNS, None)}, "no column 'nothing', which is in its key"),
        ({"default": Table("", (), COLUMNS, None)}, "table 'default' has no key"),
        (
            {"default": Table("", ("n",), (Column("n", "int", ""),), None)},  # type: ignore[arg-type]
            "column 'n' of type 'int': choose of string, int64,",
        ),
        ({"default": Table("", ("number",), (NUMBER, NUMBER), None)}, "two columns of one name"),
        ({"default": Table("a" * 2001, ("number",), COLUMNS, None)}, "a doc of over 2,000 characters"),
    ],
)
def test_tables_that_cannot_be_split_or_sorted_are_refused(tables: dict[str, Table], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Builder(name="numbers", doc="", config=NoSettings, tables=tables, build=lambda: None)  # type: ignore[arg-type]
