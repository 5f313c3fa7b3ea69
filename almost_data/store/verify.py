"""Whether manifest, ledger, card and files of an artifact agree.

All of them may be damaged or hostile, so they are read in bounded memory.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from ..cards import front_matter
from ..datasets.digest import RowHasher, files_digest, splits
from ..datasets.manifest import Manifest, changes, check_ledger, fingerprint
from ..datasets.tables import Table, arrow_schema
from ..errors import InputError
from ..models.files import loaded_files
from . import parquet
from .store import Store

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

PART_BYTES = 32_000_000
"""Bytes of a large table in memory at a time; more where row sizes differ a lot."""
MAX_REASONS = 10_000
MAX_IDS = 1_000_000
"""Most ids in memory at a time; beyond that, the bounds of parts come from a sample."""
ID_BYTES, MAX_KEY_BYTES = 16, 256
"""Length of a query_id, and of any other text key at most."""
MAX_PART = 10 * PART_BYTES
MAX_WHOLE = 1_000_000_000
"""Bytes of a table whose first key is a number, so that it is read whole."""

RECORD = re.compile(r"README\.md|manifest\.json|plots/[\w-]+\.png")
ROWS = re.compile(r"data/[A-Za-z0-9][A-Za-z0-9._-]*/(train|test)-\d{5}-of-\d{5}\.parquet")


def verify(store: Store, ref: str) -> list[str]:
    """Every disagreement between manifest, card and files, one sentence each; empty if all agree."""
    manifest = store.manifest(ref)
    problems = []
    if fingerprint(manifest.builder, manifest.config, manifest.parents) != manifest.fingerprint:
        problems.append("fingerprint: not that of the builder, config and parents in the manifest")
    try:
        check_ledger(manifest.ledger)
    except ValueError as error:
        problems.append(str(error))
    problems += _verify_model(store, manifest) if manifest.kind == "model" else _verify_rows(store, manifest)
    problems += _verify_card(store, ref, manifest)
    problems += _verify_names(store, manifest)
    for parent in manifest.parents:
        if store.has(parent.ref) and store.manifest(parent.ref).digest != parent.digest:
            problems.append(f"parents: {parent.ref} here has another digest than the parent built from")
    return problems


def _verify_names(store: Store, manifest: Manifest) -> list[str]:
    """Files that do not belong in an artifact of this kind."""
    folder = store.path(manifest.ref)
    is_model = manifest.kind == "model"
    weights = set(loaded_files(folder)) if is_model else set()
    paths = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if not file.is_dir()]
    return [
        f"{path}: not part of an artifact"
        for path in paths
        if not (RECORD.fullmatch(path) or path in weights or (not is_model and ROWS.fullmatch(path)))
    ]


def _verify_rows(store: Store, manifest: Manifest) -> list[str]:
    """A dataset's files against counts, digest and ledger."""
    reader = _RowReader(store, manifest)
    is_readable = True
    for config in store.configs(manifest.ref):
        try:
            reader.read(config)
        except Exception as error:  # a damaged file can make the readers raise anything
            reader.problems.append(f"data/{config}: cannot be used: {error}")
            is_readable = False
    problems = reader.problems
    stored = {folder.name for folder in (store.path(manifest.ref) / "data").glob("*")}
    problems += [f"data/{name}: not in the manifest" for name in sorted(stored - set(manifest.counts))]
    if is_readable and reader.hasher.digest() != manifest.digest:
        problems.append("digest: the rows are not those of the manifest")
    return problems + _verify_ledger(manifest, reader.dropped)


def _verify_model(store: Store, manifest: Manifest) -> list[str]:
    """A model's files against the digest; all are hashed, even if their times are unchanged."""
    try:
        digest = files_digest(loaded_files(store.path(manifest.ref)))
    except OSError as error:
        return [f"a file of the model cannot be read: {error.strerror}"]
    if digest == manifest.digest:
        return []
    return ["digest: the model's files are not those of the manifest"]


class _RowReader:
    """Reads the rows of a dataset, config by config, in parts that fit in memory."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store, self.manifest = store, manifest
        self.hasher = RowHasher(manifest.tables)
        self.problems: list[str] = []
        self.dropped: dict[str, int] = {}
        """Reason -> rows that have it."""

    def read(self, config: str) -> None:
        """Hash and count a config's rows. A damaged or hostile file can make it raise any exception."""
        ref, counts = self.manifest.ref, self.manifest.counts[config]
        table = self.manifest.table(config)
        schema = arrow_schema(table)
        groups: list[parquet.Group] = []
        for split, count in counts.items():
            files = self.store.files(ref, config, split)
            split_groups = [group for file in files for group in parquet.groups(file, schema, count)]
            if (stored := sum(group.rows for group in split_groups)) != count:
                self.problems.append(
                    f"counts: {config}/{split} has {stored} rows in its files, {count} in the manifest"
                )
            groups += split_groups
        splits_in_files = {file.name.split("-")[0] for file in self.store.files(ref, config)}
        for split in sorted(splits_in_files - set(counts)):
            self.problems.append(f"data/{config}: split {split} is not in the manifest")
        for frame in _parts(groups, table):
            for split, part in splits(frame, table.split_key).items():
                self.hasher.add(config, split, part)
            if "reason" in frame.columns:
                self._count_reasons(frame)

    def _count_reasons(self, frame: "pl.DataFrame") -> None:
        for reason, n in frame["reason"].drop_nulls().value_counts().iter_rows():
            self.dropped[reason] = self.dropped.get(reason, 0) + n
        if len(self.dropped) > MAX_REASONS:
            raise ValueError(f"over {MAX_REASONS:,} reasons for dropping a row")


@dataclass(frozen=True)
class _KeyedGroup:
    """A row group, and the least and greatest key in it; None where its keys were not read."""

    group: parquet.Group
    bounds: tuple[str, str] | None = None

    def overlaps(self, low: str | None, high: str | None) -> bool:
        """Whether it can have a key from `low` on and before `high`."""
        if self.bounds is None:
            return True
        least, greatest = self.bounds
        return not ((low and greatest < low) or (high and least >= high))


def _parts(groups: list[parquet.Group], table: Table) -> "Iterator[pl.DataFrame]":
    """All rows in the order of the first key, about PART_BYTES at a time; no key is in two parts."""
    size = sum(group.bytes for group in groups)
    key = table.key[0]
    is_text = next(column.type == "string" for column in table.columns if column.name == key)
    limit = MAX_PART if is_text else MAX_WHOLE
    if size > PART_BYTES and is_text:
        keyed, starts = _key_ranges(groups, key, size)
    else:
        keyed, starts = [_KeyedGroup(group) for group in groups], []
    for low, high in zip([None, *starts], [*starts, None], strict=True):
        inside = [group.group for group in keyed if group.overlaps(low, high)]
        if rows := _read_range(inside, key, low, high, limit):
            yield _frame(rows)


def _key_ranges(groups: list[parquet.Group], key: str, size: int) -> tuple[list[_KeyedGroup], list[str]]:
    """The groups with the bounds of their keys, and the keys at which a new part starts."""
    import polars as pl
    import pyarrow as pa

    every_nth = 1 + sum(group.rows for group in groups) // MAX_IDS
    keyed, samples = [], []
    for group in groups:
        ids = _frame(pa.Table.from_batches(group.read([key])))[key]
        lengths = ids.str.len_bytes()
        has_key_length = lengths == ID_BYTES if key == "query_id" else lengths <= MAX_KEY_BYTES
        if ids.null_count() or not has_key_length.all():
            raise ValueError(f"{group.file.name}: {key} is missing or has the wrong length")
        keyed.append(_KeyedGroup(group, (str(ids.min()), str(ids.max()))))
        samples.append(ids.gather_every(every_nth))
    sample = pl.concat(samples).sort()
    step = max(1, len(sample) * PART_BYTES // size)
    return keyed, sorted(set(sample.gather_every(step, step)) - {sample[0]})


def _read_range(
    groups: list[parquet.Group], key: str, low: str | None, high: str | None, limit: int
) -> "pa.Table | None":
    """The rows with a key from `low` on and before `high`.

    Raises ValueError where they take more than `limit` bytes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    conditions = [pc.field(key) >= low] if low else []
    conditions += [pc.field(key) < high] if high else []
    batches, size = [], 0
    for group in groups:
        for batch in group.read():
            # By Arrow, which copies what is kept: a Polars frame would hold on to the whole batch.
            rows = batch.filter(reduce(and_, conditions)) if conditions else batch
            batches.append(rows)
            size += rows.nbytes
            if size > limit:
                raise ValueError(f"rows that have to be read at once take over {limit / 1e6:,.0f} MB")
    return pa.Table.from_batches(batches) if batches else None


def _frame(rows: "pa.Table") -> "pl.DataFrame":
    import polars as pl

    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _verify_card(store: Store, ref: str, manifest: Manifest) -> list[str]:
    file = store.path(ref) / "README.md"
    if not file.is_file():
        return ["README.md: missing"]
    try:
        text = file.read_text("utf-8")
        head = front_matter.front_matter(text)
    except (InputError, UnicodeDecodeError) as error:
        return [f"README.md: {error}"]
    expected = {} if manifest.kind == "model" else front_matter.viewer(manifest)
    differences = changes({key: head.get(key) for key in expected}, expected)
    problems = [f"README.md: {difference}" for difference in differences]
    for image in re.findall(r"!\[[^]]*\]\((plots/[^)]+)\)", text):
        if not (store.path(ref) / image).is_file():
            problems.append(f"{image}: missing")
    return problems


def _verify_ledger(manifest: Manifest, dropped: dict[str, int]) -> list[str]:
    """The ledger against the rows: those that its last line kept, and those dropped for each reason."""
    if manifest.kind == "evaluation" and not manifest.ledger:
        return []
    problems = []
    rows = sum(manifest.counts.get("default", {}).values())
    if not manifest.ledger or manifest.ledger[-1].kept != rows:
        problems.append(f"ledger: its last line does not keep the {rows} rows of default")
    accounted: Counter[str] = Counter()
    for entry in manifest.ledger:
        accounted.update(entry.dropped)
        accounted["failed"] += entry.failed
    for reason in sorted(accounted.keys() | dropped.keys()):
        if accounted[reason] != dropped.get(reason, 0):
            problems.append(
                f"ledger: {accounted[reason]} rows {reason}, {dropped.get(reason, 0)} in the files"
            )
    return problems
