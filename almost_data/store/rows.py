"""Rows as Parquet files: sharded, split by hash, written as they come."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..datasets.digest import RowHasher, Rows, frames, splits
from ..datasets.tables import Table, arrow_schema, polars_schema, table_of
from . import parquet

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SHARD_BYTES = 300_000_000
"""In memory; compressed shards come out at about a third."""
ROW_GROUP = parquet.MAX_ROWS
CHUNKS = {"min_chunk_size": 64 * 1024, "max_chunk_size": 128 * 1024}
"""Bytes of a Parquet page, cut by content. The Hub uploads again only the pages that changed: of 15 MB of
queries with 1% replaced in a row, 3.2 MB, where larger pages and dictionaries of all columns need 7.9 MB.
Smaller pages save little more and cost much: with 16 kB, files of texts are 13% larger.
"""
MAX_DICTIONARY = 100
"""Distinct values of a column that is written with a dictionary, at most."""


def write_config(folder: Path, config: str, rows: Rows, hasher: RowHasher) -> None:
    """Write a config's rows as `SPLIT-NNNNN-of-NNNNN.parquet`; the hasher gets them in another thread."""
    table = table_of(hasher.tables, config)
    shards: dict[str, Shards] = {}
    try:
        with ThreadPoolExecutor(1) as pool:
            for frame in (_conformed(config, frame, table) for frame in frames(rows)):
                for split, part in splits(frame, table.split_key).items():
                    hashing = pool.submit(hasher.add, config, split, part)
                    if split not in shards:
                        shards[split] = Shards(folder, split, table, frame)
                    shards[split].write(part)
                    hashing.result()
        for writer in shards.values():
            writer.close()
    except BaseException:
        for writer in shards.values():
            writer.abandon()
        raise


def _conformed(config: str, rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The rows in the columns and types of their table. Raises ValueError where they do not fit."""
    if missing := [name for name in table.names if name not in rows.columns]:
        raise ValueError(f"{config}: built without the column {missing[0]!r} of its table")
    try:
        return rows.select(table.names).cast(dict(polars_schema(table)))  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{config}: rows of other types than its table's: {error}") from None


class Shards:
    """The Parquet files of one config and split: a new one whenever the last is full."""

    def __init__(self, folder: Path, split: str, table: Table, sample: pl.DataFrame) -> None:
        self.folder, self.split = folder, split
        self.columns = arrow_schema(table)
        self.dictionary = _repeating_columns(table, sample)
        self.files: list[Path] = []
        self.writer: pq.ParquetWriter | None = None
        self.size = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: pl.DataFrame) -> None:
        pieces = max(1, -(-int(rows.estimated_size()) // SHARD_BYTES))
        for piece in rows.iter_slices(-(-len(rows) // pieces)):
            size = int(piece.estimated_size())
            if self.size + size > SHARD_BYTES:
                self._end_file()
            self.size += size
            self.writer = self.writer or self._begin_file()
            self.writer.write_table(piece.to_arrow().cast(self.columns), ROW_GROUP)

    def close(self) -> None:
        self._end_file()
        for number, file in enumerate(self.files):
            file.rename(self.folder / f"{self.split}-{number:05d}-of-{len(self.files):05d}.parquet")

    def abandon(self) -> None:
        """After an error, such as a full disk: write nothing more, not even when the writer is collected."""
        if self.writer:
            self.writer.is_open = False

    def _begin_file(self) -> "pq.ParquetWriter":
        import pyarrow.parquet as pq

        self.files.append(self.folder / f"{self.split}-{len(self.files):05d}")
        # Content-defined chunks and a page index: the Hub then stores and shows changed files cheaply.
        return pq.ParquetWriter(
            self.files[-1],
            self.columns,
            compression="zstd",
            use_content_defined_chunking=CHUNKS,
            use_dictionary=self.dictionary,
            write_page_index=True,
        )

    def _end_file(self) -> None:
        if self.writer:
            self.writer.close()
        self.writer, self.size = None, 0


def _repeating_columns(table: Table, sample: pl.DataFrame) -> list[str]:
    """Paths of the columns that have few values: names, reasons, roles.

    A dictionary of texts, ids or addresses would be one large page that any new value changes.
    """
    roles = [f"{column.name}.list.element.role" for column in table.columns if column.type == "messages"]
    strings = [column.name for column in table.columns if column.type == "string"]
    limit = min(MAX_DICTIONARY, (1 + len(sample)) // 2)
    return roles + [name for name in strings if name != table.split_key and sample[name].n_unique() <= limit]
