"""Mistakes of an outside builder: refused when it is made, or in a build that leaves nothing behind."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from matplotlib.figure import Figure

from almost_data import (
    Builder,
    Built,
    Column,
    Config,
    Filter,
    InputError,
    NothingLeft,
    Table,
    apply_filters,
    prepare,
)
from almost_data.datasets.builder import load_builder
from almost_data.datasets.manifest import decode_manifest, encode_manifest

TABLE = Table("one word a row", ("word",), (Column("word", "string", "a word", "tea"),), split_key=None)


class WordsConfig(Config, frozen=True):
    words: tuple[str, ...] = ("tea", "leaf")


def build(config: WordsConfig, parents: Any, generator: Any, progress: Any) -> Built:
    rows = pl.DataFrame({"word": config.words})
    short = Filter("short", "word", "It has one letter.", "test", pl.col("word").str.len_chars() < 2)
    checked = apply_filters(rows, [short], "checks")
    return Built({"default": checked.kept}, checked.ledger, {})


WORDS = Builder(
    name="words", doc="Words.", config=WordsConfig, tables={"default": TABLE}, build=build, uses_engine=False
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "engine"},
        {"name": "Words"},
        {"tables": {"default": TABLE, "../x": TABLE}},
        {"tables": {"default": TABLE, "a b": TABLE}},
        {"tables": {"default": msgspec.structs.replace(TABLE, key=("letter",))}},
        {"tables": {"default": msgspec.structs.replace(TABLE, columns=(Column("word", "str", ""),))}},  # type: ignore[arg-type]
        {"flags": ("letters",)},
        {"hooks": {"word": {"word": "tea"}}},
    ],
)
def test_a_builder_of_parts_that_do_not_fit_is_refused_at_once(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="builder"):
        dataclasses.replace(WORDS, **change)


def test_a_file_cannot_take_the_name_of_a_built_in_builder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nfrom almost_data.builders.queries import BUILDER\n"
        "MINE = dataclasses.replace(BUILDER, doc='mine')\nTABLE = BUILDER.tables\n"
    )
    with pytest.raises(InputError, match="choose another name"):
        load_builder(f"{tmp_path}/mine.py:MINE")
    with pytest.raises(InputError, match=r"not an almost_data\.Builder"):
        load_builder(f"{tmp_path}/mine.py:TABLE")


def test_nothing_left_says_which_filter_took_all(tmp_path: Path) -> None:
    run = prepare("fake", root=tmp_path, builders=[WORDS], assignments=('words.words=["a","b"]',))
    for _ in range(2):
        with pytest.raises(NothingLeft, match="short kept 0 of 2"):
            run.build(WORDS)


@pytest.mark.parametrize("name", ["../evil", "twice"])
def test_a_figure_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    def figures(manifest: Any, tables: Any) -> Any:
        yield name, Figure()
        yield name, Figure()

    run = prepare("fake", root=tmp_path / "root")
    with pytest.raises(ValueError, match="figure"):
        run.build(dataclasses.replace(WORDS, figures=figures))
    assert run.store.refs() == [] and not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "change",
    [
        {"parts": ["rejected"]},
        {"parts": ["../x"]},
        {"key": ["absent"]},
        {"columns": []},
    ],
)
def test_a_manifest_whose_tables_do_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = prepare("fake", root=tmp_path)
    manifest = run.build(WORDS)[-1].manifest
    raw = msgspec.json.decode(encode_manifest(manifest))
    raw["tables"]["rejected"] = dict(raw["tables"]["default"])
    raw["tables"]["default"] |= change
    with pytest.raises(InputError, match="not a manifest"):
        decode_manifest(msgspec.json.encode(raw), "manifest.json")


@pytest.mark.parametrize("key", ["resolved", "reward_models", "file"])
def test_a_config_that_lineage_cannot_read_is_refused(tmp_path: Path, key: str) -> None:
    run = prepare("fake", root=tmp_path)
    raw = msgspec.json.decode(encode_manifest(run.build(WORDS)[-1].manifest))
    raw["config"][key] = "x"
    with pytest.raises(InputError, match="not a manifest"):
        decode_manifest(msgspec.json.encode(raw), "manifest.json")
