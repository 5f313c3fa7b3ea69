"""Rows as files for other programs and people, and in the layouts that other trainers document.

The files of `trainers` launch a trainer and hold no text of a dataset: what they name are fixed file and
column names and the variables MODEL, REWARD_MODEL and TEMPLATE, so that no text becomes part of a command.
They are written for OpenRLHF 0.11, verl 0.9, LLaMA-Factory 0.9 and axolotl 0.19.
"""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import polars as pl

from ..cards.markdown import clean
from ..errors import InputError
from ..outputs import new_folder, replacing
from .conditions import flat, matching, message_columns
from .samples import Artifacts, dataset, with_texts
from .sources import check_rows, check_sides

SUFFIXES = (".jsonl", ".csv", ".parquet")
Trainer = Literal["openrlhf", "verl", "llama-factory", "axolotl"]
_FORMULA = re.compile(r"(^|[;\t]|\n(?=\s*[=+@]))(?=\s*[=+\-@])")
"""Where a spreadsheet begins to calculate: at the front, and where it may see a new cell."""


def export(
    artifacts: Artifacts,
    ref: str,
    file: Path,
    *,
    config: str = "default",
    where: str | None = None,
    is_flat: bool = False,
) -> int:
    """Write the rows of a config that fit `where` (as in `matching`), with their split; returns how many.

    Texts are joined where the config holds ids alone. A flat file has text for messages, and of CSV no cell
    that a spreadsheet calculates. The file is replaced when it is whole. Raises InputError.
    """
    if file.suffix not in SUFFIXES:
        raise InputError(f"export.out {file}: the name decides the format: end it in {', '.join(SUFFIXES)}")
    manifest = dataset(artifacts, ref)
    if config == "default":
        check_rows(manifest)
    rows = with_texts(artifacts, manifest, config).drop("config")
    rows = matching(rows, ref, where)
    if is_flat:
        rows = flat(rows)
    if file.suffix == ".csv":
        texts = [name for name, kind in rows.collect_schema().items() if kind == pl.String]
        escaped = pl.col(texts).map_elements(escape_spreadsheet_cell, return_dtype=pl.String)
        rows = rows.with_columns(escaped) if is_flat else _as_json(rows)
    with replacing(file, "export.out") as staging:
        if file.suffix == ".jsonl":
            rows.sink_ndjson(staging)
        elif file.suffix == ".csv":
            rows.sink_csv(staging, include_bom=is_flat, quote_style="non_numeric")
        else:
            rows.sink_parquet(staging)
    return int(rows.select(pl.len()).collect().item())


def escape_spreadsheet_cell(text: str) -> str:
    """A cell that no spreadsheet calculates and no terminal obeys.

    >>> escape_spreadsheet_cell("=1+1"), escape_spreadsheet_cell("- a\\n- b")
    ("'=1+1", "'- a\\n- b")
    """
    return _FORMULA.sub(r"\1'", clean(text))


def _as_json(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with messages as JSON text, which is how a cell can hold them."""
    turn = pl.element().struct.json_encode()
    return rows.with_columns(
        pl.concat_str(pl.lit("["), pl.col(name).list.eval(turn).list.join(","), pl.lit("]")).alias(name)
        for name in message_columns(rows)
    )


# --- trainers ----------------------------------------------------------------------------------------------


def launch_files(trainer: Trainer) -> dict[str, str]:
    """The files that launch a trainer: name -> text."""
    folder = resources.files(__package__).joinpath("trainers", trainer)
    return {file.name: file.read_text("utf-8") for file in sorted(folder.iterdir(), key=str)}


def _pairs(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("prompt", "chosen", "rejected")


def _prompts(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    prompts = rows.select("prompt", "query_id").filter(pl.col("query_id").is_first_distinct())
    return prompts.with_row_index("index").select(
        pl.lit(ref).alias("data_source"),
        "prompt",
        pl.lit("chat").alias("ability"),
        pl.struct(style=pl.lit("model"), ground_truth=pl.lit("")).alias("reward_model"),
        pl.struct(pl.col("index").cast(pl.Int64), "query_id").alias("extra_info"),
    )


def _turns(ref: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    sides = (pl.col(side).list.last() for side in ("chosen", "rejected"))
    return rows.select(pl.col("prompt").alias("messages"), *sides)


LAYOUTS: dict[Trainer, tuple[Callable[[str, pl.LazyFrame], pl.LazyFrame], str]] = {
    "openrlhf": (_pairs, ".jsonl"),
    "verl": (_prompts, ".parquet"),
    "llama-factory": (_turns, ".jsonl"),
    "axolotl": (_turns, ".jsonl"),
}
"""Trainer -> what lays out its rows, from the ref and the comparisons of a split; its data files' suffix."""


def hand_over(artifacts: Artifacts, ref: str, trainer: Trainer, folder: Path) -> dict[str, int]:
    """Write comparisons for a trainer into a new folder; returns the rows of each data file.

    Raises InputError where they are no comparisons, or the folder exists or cannot be written.
    """
    layout, suffix = LAYOUTS[trainer]
    if folder.suffix in SUFFIXES:
        raise InputError(f"export.out {folder}: export.to writes a folder: leave out {folder.suffix}")
    manifest = dataset(artifacts, ref)
    check_sides(manifest)
    check_rows(manifest)
    rows = with_texts(artifacts, manifest, "default")
    columns = rows.collect_schema()
    missing = {"query_id", "split"} - set(columns)
    sides = ("prompt", "chosen", "rejected")
    missing |= {name for name in sides if not isinstance(columns.get(name), pl.List)}
    if missing:
        names = ", ".join(sorted(missing))
        raise InputError(f"{ref}: export.to takes comparisons of messages, and it has no such column {names}")
    files = {split: f"{split}{suffix}" for split in ("train", "test")}
    counts = {}
    with new_folder(folder, "export.out") as staging:
        for split, name in files.items():
            data = layout(ref, rows.filter(pl.col("split") == split))
            if suffix == ".parquet":
                data.sink_parquet(staging / name)
            else:
                data.sink_ndjson(staging / name)
            counts[name] = int(data.select(pl.len()).collect(engine="streaming").item())
        for name, text in launch_files(trainer).items():
            (staging / name).write_text(text, encoding="utf-8")
    return counts
