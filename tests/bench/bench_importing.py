"""Imports of a million rows of JSONL, packed CSV and Parquet: rows a second, and peak memory."""

import csv
import gzip
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from almost_data.run import importing
from almost_data.store.store import Store
from tests.bench import Result, in_process

ROWS = 1_000_000
FORMATS = ("jsonl", "csv.gz", "parquet")
RESPONDERS = ("large", "small")
SIDES = {"preferences": ("chosen", "rejected"), "responses": RESPONDERS, "queries": RESPONDERS}
"""What is imported -> columns of the two replies."""


def run(rows: int = ROWS) -> list[Result]:
    results = []
    for suffix in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            files = {sides: Path(folder) / f"{sides[0]}.{suffix}" for sides in SIDES.values()}
            for sides, file in files.items():
                write(file, rows, sides)
            for kind, sides in SIDES.items():
                file = files[sides]
                before = processor_seconds()
                seconds, peak = in_process(import_rows, kind, str(file))
                processor = 1e6 * (processor_seconds() - before) / rows
                label = f"import {kind}, {rows:,} rows of {suffix}"
                results.append(Result(label, "rows/s", rows / seconds, None, "20,000"))
                results.append(Result(f"{label}: processor time", "microseconds a row", processor, None, ""))
                results.append(Result(f"{label}: peak memory", "MiB", peak, None, "2,048"))
    return results


def processor_seconds() -> float:
    """Of all processes that ended: where others are at work on the machine, it varies less than the rate."""
    times = os.times()
    return times.children_user + times.children_system


def examples(rows: int, sides: tuple[str, str]) -> Iterator[dict[str, str]]:
    """Rows of about 700 characters, each of a prompt of its own."""
    words = " ".join(f"word{n}" for n in range(80))
    for number in range(rows):
        start = number % 97
        yield {
            "prompt": f"What is to be said of number {number}?",
            sides[0]: f"Of {number}, this: {words[start : start + 400]}.",
            sides[1]: f"Nothing of {number}. {words[start : start + 250]}.",
        }


def write(file: Path, rows: int, sides: tuple[str, str]) -> None:
    if file.suffix == ".parquet":
        pl.DataFrame(list(examples(rows, sides))).write_parquet(file)
    elif file.suffix == ".gz":
        with gzip.open(file, "wb", compresslevel=1) as packed, io.TextIOWrapper(packed, "utf-8") as text:
            writer = csv.DictWriter(text, ("prompt", *sides))
            writer.writeheader()
            writer.writerows(examples(rows, sides))
    else:
        with file.open("w", encoding="utf-8") as text:
            text.writelines(json.dumps(row) + "\n" for row in examples(rows, sides))


def import_rows(kind: str, file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        if kind == "responses":
            importing.import_responses(store, file, list(RESPONDERS), "1.0.0")
        elif kind == "queries":
            options = importing.Options({"query": "prompt"})
            importing.import_queries(store, file, "1.0.0", options)
        else:
            importing.import_preferences(store, file, "1.0.0")
