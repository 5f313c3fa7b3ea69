"""Rows to look at: drawn by seed, kept or dropped, with their texts.

Tables of dropped rows may hold ids only, as the texts are in the dataset above: they are joined from there.
"""

import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol

import polars as pl

from ..arguments import check_count
from ..datasets.manifest import Manifest
from ..errors import InputError, did_you_mean
from ..viewer.page import Page, share_page
from ..viewer.rows import ADDED, PAIR, PROMPTS, Row, replies_row, row_of
from .conditions import largest, matching

ANY = "any"
"""The reason that stands for every reason."""
PAIR_IDS = ("chosen_reply_id", "rejected_reply_id")
_GROUPED = {"query_id", "responder", "response"}
"""Columns of responses that are shown beside the others of their query."""
_PLACE = "__place"


class Artifacts(Protocol):
    """What is read of a store."""

    def has(self, ref: str) -> bool: ...
    def path(self, ref: str) -> Path: ...
    def manifest(self, ref: str) -> Manifest: ...
    def configs(self, ref: str) -> list[str]: ...
    def scan(self, ref: str, config: str = "default", split: str | None = None) -> pl.LazyFrame: ...
    def ancestors(self, manifest: Manifest) -> list[Manifest]: ...


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows are looked at."""

    dropped: str | None = None
    """Rows that were dropped for this reason, or for `any`."""
    where: str | None = None
    """Polars SQL over the columns, such as "chosen_length > 500 AND rejected LIKE '%sorry%'"."""
    pair: str | None = None
    """Pairs of these responders: 'CHOSEN>REJECTED'."""
    longer: Literal["chosen", "rejected"] | None = None
    """Pairs whose longer reply is on this side."""
    id: str | None = None
    """Rows with this id, or of this query or reply, kept or dropped; of a response, all to its query."""
    sort: str | None = None
    """Column of which the largest values are shown, such as chosen_length."""
    config: str = "default"
    """Config that the rows are from."""
    seed: int = 0
    """Seed of the draw."""


@dataclass(frozen=True)
class Sample:
    """Some of the rows that were selected."""

    frame: pl.DataFrame
    rows: list[Row]
    matching: int
    """Rows that were selected, or queries where a row is shown with its siblings."""
    notes: list[str]

    @property
    def unit(self) -> str:
        """What is counted."""
        return "queries" if _group(self.frame.schema) else "rows"


def sample(artifacts: Artifacts, ref: str, selection: Selection = Selection(), n: int = 20) -> Sample:
    """`n` rows of a dataset, drawn by seed. Raises InputError where the selection does not fit it."""
    manifest = dataset(artifacts, ref)
    frame, count = select(artifacts, manifest, selection, n)
    sampled = list(rows_of(manifest, frame))
    return Sample(frame, sampled, count, notes(artifacts, manifest, sampled))


def select(
    artifacts: Artifacts, manifest: Manifest, selection: Selection, n: int | None
) -> tuple[pl.DataFrame, int]:
    """`n` rows, or all, with texts, and how many were selected. Raises InputError as `sample` does."""
    if n is not None:
        check_count("sample.n", n)
    rows = _selected(artifacts, manifest, selection)
    rows = matching(rows, manifest.ref, selection.where, selection.pair, selection.longer)
    n = sys.maxsize if n is None else n
    if selection.sort:
        return largest(rows, manifest.ref, selection.sort, n)
    return draw(rows, n, selection.seed, _group(rows.collect_schema()))


def examples(artifacts: Artifacts, manifest: Manifest, n: int) -> list[Row]:
    """Rows of `n` queries, drawn by seed 0, one of each; the responses to a query are one row."""
    rows = with_texts(artifacts, manifest, "default")
    if "query_id" not in rows.collect_schema() or _group(rows.collect_schema()):
        return sample(artifacts, manifest.ref, n=n).rows
    frame, _ = draw(rows, n, 0, "query_id")
    return list(rows_of(manifest, frame.unique("query_id", keep="first", maintain_order=True)))


def overview(artifacts: Artifacts, ref: str, limit: int, seed: int = 0) -> Page:
    """The page of a dataset: kept and dropped rows, up to `limit`, which are drawn from each reason."""
    check_count("view.n", limit)
    manifest = dataset(artifacts, ref)
    kept = [name for name in artifacts.configs(ref) if name not in dropped_configs(artifacts, manifest)]
    stored = ["default", *(name for name in kept if name in manifest.tables and name != "default")]
    parts = [with_texts(artifacts, manifest, config) for config in stored]
    sizes = [_units(part, _group(part.collect_schema()))[1] for part in parts]
    reasons: list[pl.LazyFrame] = []
    for config in dropped_configs(artifacts, manifest):
        dropped = with_texts(artifacts, manifest, config).filter(pl.col("reason").is_not_null())
        names = dropped.select("reason").unique().sort("reason").collect()["reason"]
        reasons += [dropped.filter(pl.col("reason") == name) for name in names]
    counts = [_units(part, None)[1] for part in reasons]
    quotas = share_page(sizes, counts, limit)
    rows: list[Row] = []
    for part, quota in zip([*parts, *reasons], quotas, strict=True):
        rows += rows_of(manifest, draw(part, quota, seed, _group(part.collect_schema()))[0])
    total = sum(sizes) + sum(counts)
    about = f"all {total:,} rows, kept and dropped"
    if len(rows) < total:
        about = (
            f"{len(rows):,} of {total:,} rows, drawn by seed {seed} from the kept ones and from each reason"
        )
    if any(_group(part.collect_schema()) for part in parts):
        about += "; a row has all responses to a query"
    return Page(ref, ". ".join([about, *notes(artifacts, manifest, rows)]), rows, manifest.ledger)


def dataset(artifacts: Artifacts, ref: str) -> Manifest:
    """The manifest of what has rows. Raises InputError for a model."""
    manifest = artifacts.manifest(ref)
    if manifest.kind == "model":
        raise InputError(f"{ref} is a model, which has no rows to look at: name its dataset")
    return manifest


def dropped_configs(artifacts: Artifacts, manifest: Manifest) -> list[str]:
    """The configs that hold dropped rows and are stored."""
    stored = artifacts.configs(manifest.ref)
    return [name for name in manifest.dropped_configs if name in stored]


def with_texts(artifacts: Artifacts, manifest: Manifest, config: str) -> pl.LazyFrame:
    """The rows of a config with the columns `config` and `split`, and texts where it holds ids alone.

    A text that is not in the store is null.
    """
    splits = manifest.counts.get(config) or {"train": 0}
    rows = pl.concat(
        artifacts.scan(manifest.ref, config, split).with_columns(config=pl.lit(config), split=pl.lit(split))
        for split in splits
    )
    names = manifest.table(config).names
    sources = [*artifacts.ancestors(manifest), manifest]
    for column, key in absent_texts(names).items():
        columns = PROMPTS[1:] if column == "prompt" else ("response",)
        lookup = _lookup(artifacts, sources, key.removeprefix("chosen_").removeprefix("rejected_"), columns)
        rows = _joined(rows, column, key, lookup)
    return rows


def absent_texts(names: Iterable[str]) -> dict[str, str]:
    """The columns of texts that a table replaces by ids -> the column of ids."""
    names, texts = set(names), {}
    if "query_id" in names and not {*PROMPTS} & names:
        texts["prompt"] = "query_id"
    is_pair = "chosen_reply_id" in names or {"comparison_id", "question_url"} <= names
    if "chosen" not in names and is_pair:
        texts |= {side: f"{side}_reply_id" for side in PAIR}
    elif "response" not in names and {"reply_id", "answer_url"} & names:
        texts["response"] = "reply_id"
    return texts


def _joined(rows: pl.LazyFrame, column: str, key: str, lookup: pl.LazyFrame | None) -> pl.LazyFrame:
    """The rows with a column of texts by their key; nulls where there is nothing to look up."""
    if lookup is None or key not in rows.collect_schema():
        # Prompts elsewhere are messages: a null of no type goes with them.
        return rows.with_columns(pl.lit(None, None if column == "prompt" else pl.String).alias(column))
    return rows.join(lookup.rename({"id": key, "text": column}), key, "left", maintain_order="left")


def _lookup(
    artifacts: Artifacts, sources: Iterable[Manifest], key: str, columns: Iterable[str]
) -> pl.LazyFrame | None:
    """`id` and `text` by the key of the nearest dataset that has it and one of the columns."""
    for source in sources:
        names = source.tables["default"].names if source.tables else []
        column = next((name for name in columns if name in names), None)
        if key in names and column:
            return artifacts.scan(source.ref).select(id=key, text=column).unique("id", keep="any")
    return None


def notes(artifacts: Artifacts, manifest: Manifest, rows: Iterable[Row]) -> list[str]:
    """Why texts are not shown, where some are not."""
    if all(side.text is not None for row in rows for side in row.sides):
        return []
    absent = [parent.ref for parent in manifest.parents if not artifacts.has(parent.ref)]
    if not absent:
        return [f"{manifest.ref} stores no text for some dropped rows"]
    return [f"texts are in {', '.join(absent)}, not in this store: pull or build it to see them"]


def _selected(artifacts: Artifacts, manifest: Manifest, selection: Selection) -> pl.LazyFrame:
    """The rows of a config, those that were dropped for a reason, or those with an id."""
    if selection.id is not None:
        return _with_id(artifacts, manifest, selection.id)
    if selection.dropped is None:
        return with_texts(artifacts, manifest, selection.config)
    configs = dropped_configs(artifacts, manifest)
    reasons = [reason for entry in manifest.ledger for reason in entry.dropped]
    reasons += ["failed"] if any(entry.failed for entry in manifest.ledger) else []
    if not reasons:
        raise InputError(f"{manifest.ref} dropped no row")
    if not configs:
        raise InputError(f"{manifest.ref} keeps no dropped rows")
    if selection.dropped not in (ANY, *reasons):
        hint = did_you_mean(selection.dropped, reasons)
        raise InputError(
            f"{manifest.ref} dropped no row as {selection.dropped!r}{hint}: its reasons are "
            f"{', '.join(dict.fromkeys(reasons))}; {ANY!r} stands for all"
        )
    reason = pl.col("reason")
    is_dropped = reason.is_not_null() if selection.dropped == ANY else reason == selection.dropped
    # Of those with a row, so that columns are those of what was dropped: single responses have no sides.
    holding = [
        config
        for config in configs
        if artifacts.scan(manifest.ref, config).select(is_dropped.any()).collect().item()
    ]
    frames = [with_texts(artifacts, manifest, config).filter(is_dropped) for config in holding or configs]
    return pl.concat(frames, how="diagonal_relaxed")


def _with_id(artifacts: Artifacts, manifest: Manifest, id: str) -> pl.LazyFrame:
    """The rows of all configs that have an id in a column of ids, or whose key it is. Raises InputError.

    Of a reply among responses, all responses to its query.
    """
    frames = []
    for config in artifacts.configs(manifest.ref):
        table = manifest.table(config)
        ids = [column.name for column in table.columns if column.name.endswith("_id")]
        key = pl.concat_str([pl.col(name).cast(pl.String) for name in table.key], separator=" ")
        # A comparison's id is made of the ids of its replies; a dropped one has these only.
        pairs = [pl.concat_str(PAIR_IDS, separator="-")] if {*PAIR_IDS} <= {*ids} else []
        has_id = pl.any_horizontal(
            *(value == id for value in (key, *pairs, *map(pl.col, ids))),
            *(pl.col(name).str.split("-").list.contains(id) for name in ids),
        )
        rows = with_texts(artifacts, manifest, config).filter(has_id).collect(engine="streaming")
        # Kept sides are messages, and dropped ones texts that were looked up.
        sides = [name for name in PAIR if rows.schema.get(name) == pl.String]
        as_turn = [pl.struct(role=pl.lit("assistant"), content=pl.col(name)).alias(name) for name in sides]
        rows = rows.with_columns(as_turn).with_columns(pl.concat_list(name).alias(name) for name in sides)
        frames += [rows.lazy()] if len(rows) else []
    if not frames:
        raise InputError(f"{manifest.ref} has no row with the id {id!r}: give one that `sample` shows")
    with_id = pl.concat(frames, how="diagonal_relaxed")
    if group := _group(with_id.collect_schema()):
        [query] = with_id.select(group).unique().collect()[group]
        return with_id if query == id else _with_id(artifacts, manifest, query)
    return with_id


def _group(columns: Iterable[str]) -> str | None:
    """The column by which rows of kept responses are shown together; None where each is shown by itself."""
    names = set(columns)
    return "query_id" if names >= _GROUPED and "reason" not in names else None


def _units(rows: pl.LazyFrame, group: str | None) -> tuple[pl.LazyFrame, int]:
    """The rows, or their groups, and how many there are."""
    units = rows.select(group).unique(maintain_order=True) if group else rows
    return units, int(units.select(pl.len()).collect().item())


def draw(rows: pl.LazyFrame, n: int, seed: int, group: str | None = None) -> tuple[pl.DataFrame, int]:
    """`n` rows, or the rows of `n` groups, by a seed and in their order; and how many there are in all."""
    units, count = _units(rows, group)
    if count <= n:
        return rows.collect(), count
    places = sorted(random.Random(seed).sample(range(count), n))
    # Streaming: of a large dataset only the drawn rows come into memory.
    sampled = units.with_row_index(_PLACE).filter(pl.col(_PLACE).is_in(places)).drop(_PLACE)
    frame = sampled.collect(engine="streaming")
    if group is None:
        return frame, count
    return rows.filter(pl.col(group).is_in(frame[group].implode())).collect(engine="streaming"), count


def rows_of(manifest: Manifest, frame: pl.DataFrame) -> Iterator[Row]:
    """The rows of a frame as people look at them; the responses to a query are one."""
    tables = {config: manifest.table(config) for config in frame["config"].unique()}
    columns = {config: [*table.names, *absent_texts(table.names), *ADDED] for config, table in tables.items()}
    if _group(frame.columns):
        ordered = frame.sort("query_id", maintain_order=True).iter_rows(named=True)
        for _, replies in groupby(ordered, lambda record: record["query_id"]):
            yield replies_row(list(replies))
        return
    for record in frame.iter_rows(named=True):
        config = record["config"]
        values = {name: record[name] for name in columns[config]}
        # A stored reply that is null is an empty one; a text that is null was not found in the store.
        empty = {"response", *PAIR} & {*tables[config].names}
        values |= {name: "" for name in empty if values[name] is None}
        yield row_of(values, tables[config].key)
