"""Imports of a million rows of JSONL, packed CSV and Parquet: rows a second, and peak memory."""

import csv
import gzip
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import Result

ROWS = 1_000_000
FORMATS = ("jsonl", "csv.gz", "parquet")
KINDS = ("preferences", "responses", "queries")
SIDES = dict.fromkeys(KINDS, ("large", "small")) | {"preferences": ("chosen", "rejected")}
"""Columns of the two replies."""


def run(rows: int = ROWS) -> list[Result]:
    """Each format and kind in a process of its own, for its peak memory."""
    results = []
    for suffix in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"rows.{suffix}"
            for kind in KINDS:
                write(file, rows, SIDES[kind])
                program = [sys.executable, "-m", "tests.bench.bench_importing", kind, str(file)]
                done = subprocess.run(program, capture_output=True, text=True, check=True)
                seconds, peak = map(float, done.stdout.split()[-2:])
                label = f"import {kind}, {rows:,} rows of {suffix}"
                results.append(Result(label, "rows/s", rows / seconds, None, "20,000"))
                results.append(Result(f"{label}: peak memory", "MiB", peak, None, "2,048"))
    return results


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
        import polars as pl

        pl.DataFrame(list(examples(rows, sides))).write_parquet(file)
    elif file.suffix == ".gz":
        with gzip.open(file, "wb", compresslevel=1) as packed, io.TextIOWrapper(packed, "utf-8") as text:
            writer = csv.DictWriter(text, ("prompt", *sides))
            writer.writeheader()
            writer.writerows(examples(rows, sides))
    else:
        with file.open("w", encoding="utf-8") as text:
            text.writelines(json.dumps(row) + "\n" for row in examples(rows, sides))


def _measured(kind: str, file: str) -> None:
    from almost_data.run import importing
    from almost_data.store.store import Store

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        if kind == "responses":
            importing.import_responses(store, file, ["large", "small"], "1.0.0")
        elif kind == "queries":
            options = importing.Options({"query": "prompt"})
            importing.import_queries(store, file, "1.0.0", options)
        else:
            importing.import_preferences(store, file, "1.0.0")
    seconds = time.perf_counter() - start
    # ru_maxrss would count what the process that started this one held.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(seconds, int(status["VmHWM"].split()[0]) / 1024)


if __name__ == "__main__":
    _measured(sys.argv[1], sys.argv[2])
