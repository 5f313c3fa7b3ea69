"""A dataset in the layout that another trainer documents, with the files of `trainers` that launch it there.

Data files hold texts, launch files hold none: what they name are fixed file and column names and the
variables MODEL, REWARD_MODEL and TEMPLATE, so that no text of a dataset becomes part of a command. They are
written for OpenRLHF 0.11, verl 0.9, LLaMA-Factory 0.9 and axolotl 0.19.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import polars as pl

from ..errors import InputError
from ..outputs import new_folder
from .export import SUFFIXES
from .samples import Artifacts, dataset, with_texts
from .sources import check_sides

Trainer = Literal["openrlhf", "verl", "llama-factory", "axolotl"]


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
