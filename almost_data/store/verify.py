"""Whether manifest, ledger, card and files of an artifact agree."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..cards import card
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
"""Of a large table, in memory at a time; a part has more of them where rows differ much."""
MOST_REASONS = 10_000
MOST_IDS = 1_000_000
"""Of so many queries, ids are known at a time: where there are more, parts are cut by a sample."""
ID_BYTES, KEY_BYTES = 16, 256
"""Of a query_id, exactly; of another text that names rows, at most."""
MOST_PART = 10 * PART_BYTES
MOST_WHOLE = 1_000_000_000
"""Bytes of a table whose first key is a number, so that it is read whole."""

RECORD = re.compile(r"README\.md|manifest\.json|plots/[\w-]+\.png")
ROWS = re.compile(r"data/[A-Za-z0-9][A-Za-z0-9._-]*/(train|test)-\d{5}-of-\d{5}\.parquet")


def verify(store: Store, ref: str) -> list[str]:
    """Every disagreement between manifest, card and files, one sentence each; none is good."""
    manifest = store.manifest(ref)
    wrong = []
    if fingerprint(manifest.builder, manifest.config, manifest.parents) != manifest.fingerprint:
        wrong.append("fingerprint: not that of the builder, config and parents in the manifest")
    try:
        check_ledger(manifest.ledger)
    except ValueError as error:
        wrong.append(str(error))
    wrong += _verify_model(store, manifest) if manifest.kind == "model" else _verify_rows(store, manifest)
    wrong += _verify_card(store, ref, manifest)
    loaded = set(loaded_files(store.path(ref))) if manifest.kind == "model" else set()
    for file in sorted(store.path(ref).rglob("*")):
        inside = file.relative_to(store.path(ref)).as_posix()
        ours = RECORD.fullmatch(inside) or (manifest.kind != "model" and ROWS.fullmatch(inside))
        if not (file.is_dir() or ours or inside in loaded):
            wrong.append(f"{inside}: no file of an artifact")
    for parent in manifest.parents:
        if store.has(parent.ref) and store.manifest(parent.ref).digest != parent.digest:
            wrong.append(f"parents: {parent.ref} here has another digest than the one built from")
    return wrong


def _verify_rows(store: Store, manifest: Manifest) -> list[str]:
    """A dataset's files against counts, digest and ledger."""
    wrong: list[str] = []
    hasher = RowHasher(manifest.tables)
    dropped: dict[str, int] = {}
    whole = True
    for config in store.configs(manifest.ref):
        try:
            _read(store, manifest.ref, config, manifest.counts[config], wrong, hasher, dropped)
        except Exception as error:  # whatever a damaged file makes the readers raise is the finding
            wrong.append(f"data/{config}: cannot be used: {error}")
            whole = False
    stored = {folder.name for folder in (store.path(manifest.ref) / "data").glob("*")}
    wrong += [f"data/{name}: not in the manifest" for name in sorted(stored - set(manifest.counts))]
    if whole and hasher.digest() != manifest.digest:
        wrong.append("digest: the rows are not those that the manifest was made for")
    return wrong + _verify_ledger(manifest, dropped)


def _verify_model(store: Store, manifest: Manifest) -> list[str]:
    """A model's files against the digest; all of them are read, whatever their time of change."""
    try:
        found = files_digest(loaded_files(store.path(manifest.ref)))
    except OSError as error:
        return [f"a file of the model cannot be read: {error.strerror}"]
    same = found == manifest.digest
    return [] if same else ["digest: the model's files are not those that the manifest was made for"]


def _read(
    store: Store,
    ref: str,
    config: str,
    counts: dict[str, int],
    wrong: list[str],
    hasher: RowHasher,
    dropped: dict[str, int],
) -> None:
    """Read the rows of a config, a part of them at a time; adds to `wrong`, `hasher` and `dropped`."""
    table = hasher.tables[config] if config in hasher.tables else store.manifest(ref).table(config)
    every: list[parquet.Group] = []
    for split, rows in counts.items():
        some = [
            group
            for file in store.files(ref, config, split)
            for group in parquet.groups(file, arrow_schema(table), rows)
        ]
        if (found := sum(group.rows for group in some)) != rows:
            wrong.append(f"counts: {config}/{split} has {found} rows in its files, {rows} in the manifest")
        every += some
    names = {file.name.split("-")[0] for file in store.files(ref, config)}
    wrong += [f"data/{config}: split {name} is not in the manifest" for name in sorted(names - set(counts))]
    for frame in _parts(every, table):
        for split, part in splits(frame, table.split_key).items():
            hasher.add(config, split, part)
        if "reason" in frame.columns:
            for reason, n in frame["reason"].drop_nulls().value_counts().iter_rows():
                dropped[reason] = dropped.get(reason, 0) + n
            if len(dropped) > MOST_REASONS:
                raise ValueError(f"over {MOST_REASONS:,} reasons for dropping a row")


def _parts(groups: list[parquet.Group], table: Table) -> "Iterator[pl.DataFrame]":
    """All rows in the order of their queries, about PART_BYTES at a time; no query is in two parts."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    size = sum(group.bytes for group in groups)
    key = table.key[0]
    is_text = next(column.type == "string" for column in table.columns if column.name == key)
    most = MOST_PART if is_text else MOST_WHOLE
    starts: list[str | None] = [None]
    reach = [("", "") for _ in groups]
    if size > PART_BYTES and is_text:
        every, some, reach = 1 + sum(group.rows for group in groups) // MOST_IDS, [], []
        for group in groups:
            ids = _frame(pa.Table.from_batches(group.read([key])))[key]
            lengths = ids.str.len_bytes()
            is_short = (lengths == ID_BYTES).all() if key == "query_id" else (lengths <= KEY_BYTES).all()
            if ids.null_count() or not is_short:
                raise ValueError(f"{group.file.name}: {key} does not name a row")
            reach.append((str(ids.min()), str(ids.max())))
            some.append(ids.gather_every(every))
        row = pl.concat(some).sort()
        step = max(1, len(row) * PART_BYTES // size)
        starts += sorted(set(row.gather_every(step, step)) - {row[0]})
    for low, high in zip(starts, [*starts[1:], None], strict=True):
        found, held = [], 0
        inside = pc.field(key) >= low if low else None
        if high:
            below = pc.field(key) < high
            inside = below if inside is None else inside & below
        for group, (first, last) in zip(groups, reach, strict=True):
            if (low and last < low) or (high and first >= high):
                continue
            for batch in group.read():
                # By Arrow, which copies what is kept: a Polars frame would hold on to the whole batch.
                kept = batch.filter(inside) if inside is not None else batch
                found.append(kept)
                held += kept.nbytes
                if held > most:
                    raise ValueError(f"rows that have to be read at once take over {most / 1e6:,.0f} MB")
        if found:
            yield _frame(pa.Table.from_batches(found))


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
        head = card.front_matter(text)
    except (InputError, UnicodeDecodeError) as error:
        return [f"README.md: {error}"]
    want = {} if manifest.kind == "model" else card.viewer(manifest)
    wrong = [f"README.md: {line}" for key in want for line in changes({key: head.get(key)}, {key: want[key]})]
    for image in re.findall(r"!\[[^]]*\]\((plots/[^)]+)\)", text):
        if not (store.path(ref) / image).is_file():
            wrong.append(f"{image}: missing")
    return wrong


def _verify_ledger(manifest: Manifest, dropped: dict[str, int]) -> list[str]:
    """The ledger against the rows: what its last line kept, and what was dropped for each reason."""
    wrong = []
    rows = sum(manifest.counts.get("default", {}).values())
    if manifest.kind == "evaluation" and not manifest.ledger:
        return []
    if not manifest.ledger or manifest.ledger[-1].kept != rows:
        wrong.append(f"ledger: its last line does not keep the {rows} rows of default")
    said: dict[str, int] = {}
    for entry in manifest.ledger:
        for reason, n in [*entry.dropped.items(), ("failed", entry.failed)]:
            said[reason] = said.get(reason, 0) + n
    for reason in sorted(said.keys() | dropped.keys()):
        if said.get(reason, 0) != dropped.get(reason, 0):
            wrong.append(
                f"ledger: {said.get(reason, 0)} rows {reason}, {dropped.get(reason, 0)} in the files"
            )
    return wrong
