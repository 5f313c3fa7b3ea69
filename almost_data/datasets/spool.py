"""Rows that may be more than fit in memory, kept in files until the dataset is written."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from .digest import Blocks, Rows, ranges
from .tables import Table, frame

CHUNK = 20_000
"""Rows of a file."""
GROUP = 1_000
"""Rows of a group in it."""
BLOCK_ROWS = 100_000
"""Rows of a block, about."""
CARD_ROWS = 20_000
"""Rows for card and figures, about."""


class Spool:
    """Takes the rows of one table in, and gives them back in blocks.

    While rows are added, those before are written by another thread.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        self.folder, self.table = folder, table
        self.rows = 0
        self._files: list[Path] = []
        self._buffer: list[Mapping[str, Any]] = []
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        folder.mkdir(parents=True)

    def add(self, row: Mapping[str, Any]) -> None:
        key = self.table.key[0]
        if len(self._buffer) >= CHUNK and row[key] != self._buffer[-1][key]:
            rows = frame(self.table, self._buffer)  # rows of one key stay in one file
            self._wait()  # two chunks are in memory at most
            self._writing = self._pool.submit(self._write, rows)
            self._buffer.clear()
        self._buffer.append(row)
        self.rows += 1

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.add(row)

    def scan(self) -> pl.LazyFrame:
        """All rows."""
        self._flush()
        return pl.scan_parquet(self._files, glob=False) if self._files else frame(self.table, []).lazy()

    def by_query(self, sample: int) -> Blocks:
        """The rows by `query_id`, with a sample of about so many rows."""
        rows = self.scan()
        return Blocks(lambda: _frames(rows, BLOCK_ROWS), next(_frames(rows, sample)))

    def by_row(self, sample: int) -> Blocks:
        """The rows by their number in the column `row`, with a sample of about so many rows."""
        rows = self.scan()
        numbers = rows.select("row").collect()["row"].sort()

        def frames(most: int) -> Iterator[pl.DataFrame]:
            starts = numbers.gather_every(most).unique(maintain_order=True).to_list()
            for low, high in zip(starts, [*starts[1:], None], strict=True):
                part = rows.filter(pl.col("row") >= low)
                yield (part if high is None else part.filter(pl.col("row") < high)).collect().sort("row")

        return Blocks(lambda: frames(BLOCK_ROWS), next(frames(sample)))

    def in_order(self) -> Blocks:
        """The rows in the order in which they came."""
        self._flush()
        return Blocks(lambda: (pl.scan_parquet(file, glob=False).collect() for file in self._files))

    def counts(self, column: str) -> dict[str, int]:
        """How many rows have each value of a column of text, by value; nulls are not counted."""
        counts = self.scan().drop_nulls(column).group_by(column).len().sort(column)
        return dict(counts.collect(engine="streaming").iter_rows())

    def _flush(self) -> None:
        self._wait()
        if self._buffer:
            self._write(frame(self.table, self._buffer))
            self._buffer.clear()

    def _wait(self) -> None:
        """Wait for the other thread. Raises its error."""
        if self._writing:
            self._writing.result()
            self._writing = None

    def _write(self, rows: pl.DataFrame) -> None:
        file = self.folder / f"{len(self._files):06}.parquet"
        # Sorted, in small groups with statistics: a range of keys reads little more than its rows.
        rows = rows.sort(self.table.key[0], maintain_order=True)
        write_rows(rows, file, GROUP)
        self._files.append(file)


def write_rows(rows: pl.DataFrame, file: Path, group_rows: int | None = None) -> None:
    """Write a temporary Parquet file. A full disk is an OSError, and none of Polars."""
    content = BytesIO()
    rows.write_parquet(content, compression="lz4", row_group_size=group_rows)
    file.write_bytes(content.getbuffer())


def tables_of(spools: Mapping[str, Spool]) -> dict[str, Rows]:
    """The tables of a dataset, each by `query_id`: `default`, and those of the others that have rows."""
    return {
        name: spool.by_query(CARD_ROWS) if spool.rows else spool.scan().collect()
        for name, spool in spools.items()
        if spool.rows or name == "default"
    }


def _frames(rows: pl.LazyFrame, most: int) -> Iterator[pl.DataFrame]:
    return (part.collect().sort("query_id", maintain_order=True) for part in ranges(rows, most))
