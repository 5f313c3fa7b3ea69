"""Whether the rows of a dataset are those of its manifest; they are read in bounded memory."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..datasets.digest import RowHasher, splits
from ..datasets.ledger import ledger_problems
from ..datasets.manifest import Manifest
from ..datasets.tables import Table, arrow_schema
from ..errors import one_line
from . import parquet
from .store import Store

if TYPE_CHECKING:
    import pyarrow as pa

PART_BYTES = 32_000_000
"""Bytes of a large table in memory at a time; more where row sizes differ a lot."""
MAX_IDS = 1_000_000
"""Most ids in memory at a time; beyond that, the bounds of parts come from a sample."""
ID_BYTES, MAX_KEY_BYTES = 16, 256
"""Length of a query_id, and of any other text key at most."""
MAX_PART = 10 * PART_BYTES


def check_rows(store: Store, manifest: Manifest, unreadable: Collection[str]) -> list[str]:
    """A dataset's files against counts, digest and ledger; configs in `unreadable` are left out."""
    hasher = RowHasher(manifest.tables)
    problems: list[str] = []
    is_readable = not unreadable
    for config in [name for name in store.configs(manifest.ref) if name not in unreadable]:
        folder = store.path(manifest.ref) / "data" / config
        try:
            problems.extend(_read(folder, config, manifest, hasher))
        except Exception as error:  # a damaged file can make the readers raise anything
            problems.append(f"data/{config}: cannot be used: {one_line(error)}")
            is_readable = False
    if not is_readable:
        return problems
    if hasher.digest() != manifest.digest:
        problems.append("digest: the rows are not those of the manifest")
    elif manifest.sizes and hasher.sizes() != manifest.sizes:
        problems.append("sizes: the bytes of the rows are not those of the manifest")
    if manifest.kind == "evaluation" and not manifest.ledger:
        return problems
    return problems + ledger_problems(manifest.ledger, manifest.counts.get("default", {}), hasher.reasons)


def _read(folder: Path, config: str, manifest: Manifest, hasher: RowHasher) -> Iterator[str]:
    """Hash a config's rows in parts that fit in memory, and yield what is wrong with their numbers."""
    counts, table = manifest.counts[config], manifest.table(config)
    schema = arrow_schema(table)
    groups: list[parquet.Group] = []
    for split, count in counts.items():
        files = sorted(folder.glob(f"{split}-*.parquet"))
        split_groups = [group for file in files for group in parquet.groups(file, schema, count)]
        if (stored := sum(group.rows for group in split_groups)) != count:
            yield f"counts: {config}/{split} has {stored} rows in its files, {count} in the manifest"
        groups += split_groups
    splits_in_files = {file.name.split("-")[0] for file in folder.glob("*.parquet")}
    for split in sorted(splits_in_files - set(counts)):
        yield f"data/{config}: split {split} is not in the manifest"
    for frame in _parts(groups, table):
        for split, part in splits(frame, table.split_key).items():
            hasher.add(config, split, part)


def _parts(groups: list[parquet.Group], table: Table) -> Iterator[pl.DataFrame]:
    """All rows in the order of the first key, about PART_BYTES at a time; no key is in two parts."""
    size = sum(group.bytes for group in groups)
    key = table.key[0]
    groups, starts = _key_ranges(groups, key, size) if size > PART_BYTES else (groups, [])
    for low, high in zip([None, *starts], [*starts, None], strict=True):
        inside = [group for group in groups if group.overlaps(low, high)]
        if rows := _read_range(inside, key, low, high):
            yield _frame(rows)


def _key_ranges(groups: list[parquet.Group], key: str, size: int) -> tuple[list[parquet.Group], list[Any]]:
    """The groups with the bounds of their keys, and the keys at which a new part starts."""
    import pyarrow as pa

    every_nth = 1 + sum(group.rows for group in groups) // MAX_IDS
    keyed, samples = [], []
    for group in groups:
        ids = _frame(pa.Table.from_batches(group.read([key])))[key]
        lengths = ids.cast(pl.String).str.len_bytes()
        has_key_length = lengths == ID_BYTES if key == "query_id" else lengths <= MAX_KEY_BYTES
        if ids.null_count() or not has_key_length.all():
            raise ValueError(f"{group.file.name}: {key} is missing or has the wrong length")
        keyed.append(replace(group, bounds=(ids.min(), ids.max())))
        samples.append(ids.gather_every(every_nth))
    sample = pl.concat(samples).sort()
    step = max(1, len(sample) * PART_BYTES // size)
    return keyed, sorted(set(sample.gather_every(step, step)) - {sample[0]})


def _read_range(groups: list[parquet.Group], key: str, low: Any, high: Any) -> "pa.Table | None":
    """The rows with a key from `low` on and before `high`, where these are no None.

    Raises ValueError where they take more than MAX_PART bytes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    conditions = [] if low is None else [pc.field(key) >= low]
    conditions += [] if high is None else [pc.field(key) < high]
    batches, size = [], 0
    for group in groups:
        for batch in group.read():
            # By Arrow, which copies what is kept: a Polars frame would hold on to the whole batch.
            rows = batch.filter(reduce(and_, conditions)) if conditions else batch
            batches.append(rows)
            size += rows.nbytes
            if size > MAX_PART:
                raise ValueError(f"rows that have to be read at once take over {MAX_PART / 1e6:,.0f} MB")
    return pa.Table.from_batches(batches) if batches else None


def _frame(rows: "pa.Table") -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
