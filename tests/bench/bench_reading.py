"""A million preferences of JSONL, packed CSV and Parquet: reading against `datasets`, and an audit."""

import tempfile
from pathlib import Path

from tests.bench import Result, in_process
from tests.bench.bench_importing import ROWS, SIDES, write

LOADERS = {"jsonl": "json", "csv.gz": "csv", "parquet": "parquet"}
"""Suffix -> the loader of `datasets`."""


def run(rows: int = ROWS) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, loader in LOADERS.items():
            file = Path(folder) / f"rows.{suffix}"
            write(file, rows, SIDES["preferences"])
            seconds, peak = in_process(read, str(file))
            plain_seconds, plain_peak = in_process(load, str(file), loader)
            label = f"read preferences, {rows:,} rows of {suffix}: against load_dataset and a loop"
            results.append(Result(label, "rows/s", rows / seconds, rows / plain_seconds, "20,000"))
            results.append(Result(f"{label}: peak memory", "MiB", peak, plain_peak, "2,048"))
        seconds, peak = in_process(audit, str(Path(folder) / "rows.jsonl"))
        label = f"audit, {rows:,} rows of jsonl"
        results.append(Result(label, "s", seconds, None, "120 for a million"))
        results.append(Result(f"{label}: peak memory", "MiB", peak, None, "2,048"))
    return results


def read(file: str) -> None:
    from almost_data.readers.preferences import read_preferences

    assert all(isinstance(row.result, list) for row in read_preferences(file).rows)


def load(file: str, loader: str) -> None:
    """The plain way: the rows of `datasets`, and the messages of each."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        for row in datasets.load_dataset(loader, data_files=file, split="train", cache_dir=cache):
            prompt = {"role": "user", "content": row["prompt"]}
            assert all([prompt, {"role": "assistant", "content": row[side]}] for side in SIDES["preferences"])


def audit(file: str) -> None:
    from almost_data.run.audit import audit
    from almost_data.store.store import Store

    with tempfile.TemporaryDirectory() as folder:
        audit(Store(folder), file)
