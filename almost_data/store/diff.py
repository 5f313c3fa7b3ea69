"""What changed between two versions of a dataset: settings, rows gained and lost, and why.

Two rows are the same where their ids are. Each lost row has the reason for which the newer version dropped
it, each gained row the reason for which the older one had dropped it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from ..datasets.changes import changes, recipe
from ..datasets.ledger import rules
from ..datasets.manifest import Manifest
from ..errors import InputError
from ..viewer.page import Page, share
from ..viewer.rows import ADDED, Row, row_of
from .names import parse_ref
from .samples import draw, with_texts
from .store import Store

EXAMPLES = 3
NOT_THERE = "not in it at all"
"""The reason where a version neither kept nor dropped the row: it read other rows."""


@dataclass(frozen=True)
class Shift:
    """A measure of a shortcut in A and in B, as text; what one of them lacks is `n/a`."""

    measure: str
    a: str
    b: str
    change: str
    """With its sign; empty where nothing changed, or a number is missing."""


@dataclass(frozen=True)
class Diff:
    """The difference of A and B. `kept + lost` are the rows of A, `kept + gained` those of B."""

    a: str
    b: str
    changes: list[str]
    """Settings by name, models and parents that differ, `name: old -> new`."""
    kept: int
    lost: int
    gained: int
    changed: int
    """Kept rows of which a column differs, scores aside, such as the text of a response."""
    reasons: list[tuple[str, int, int]]
    """Reason, rows that B dropped for it, rows that A dropped for it; most rows first."""
    causes: list[str]
    """Sentences: of a reason that follows from other dropped rows, why a version dropped those."""
    pairs: list[tuple[str, int, int, int, str]]
    """Responder pair, kept, lost, gained, and the reasons with their numbers; comparisons only."""
    shortcuts: list[Shift]
    """What tells chosen from rejected, of datasets whose manifests have measured it."""
    examples: dict[Literal["lost", "gained"], list[Row]]
    """Rows with the lowest ids, which are hashes: they are neither the best nor the worst."""


def diff(store: Store, a: str, b: str) -> Diff:
    """Compare two artifacts in the store. Raises InputError where they are not of one name."""
    old, new, key = _comparable(store, a, b)
    lost, gained, common = _changes(store, old, new, key)
    names = {*old.table("default").names} & {*new.table("default").names}
    columns = [column for column in old.table("default").columns if column.name in names - {*key}]
    compared = [column.name for column in columns if column.compared]
    differs = pl.any_horizontal(
        pl.lit(False), *(pl.col(name).ne_missing(pl.col(f"{name}_b")) for name in compared)
    )
    kept, changed = common.select(pl.len(), differs.sum().alias("changed")).collect().row(0)
    reasons = _reasons(lost, gained)
    return Diff(
        a=a,
        b=b,
        changes=_recipe_changes(recipe(old), recipe(new)),
        kept=kept,
        lost=len(lost),
        gained=len(gained),
        changed=changed,
        reasons=reasons,
        causes=_causes(old, new, reasons),
        pairs=_pairs(common, lost, gained) if "chosen_responder" in names else [],
        shortcuts=_shifts(old, new),
        examples={
            "lost": _rows(old, lost.head(EXAMPLES), "lost"),
            "gained": _rows(new, gained.head(EXAMPLES), "gained"),
        },
    )


def _recipe_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs, without models, prompts and filters that only one has: settings name them."""
    parts = ("resolved", "prompts", "filters")
    common = {name: old.get(name, {}).keys() & new.get(name, {}).keys() for name in parts}

    def shared(side: dict[str, Any]) -> dict[str, Any]:
        return side | {name: {key: side[name][key] for key in keys} for name, keys in common.items()}

    return changes(shared(old), shared(new)) or changes(old, new)


def difference_page(store: Store, a: str, b: str, limit: int, seed: int = 0) -> Page:
    """The page of the rows that only one of two versions has, up to `limit`, and why the other lacks them.

    Raises InputError where they are not of one name.
    """
    old, new, key = _comparable(store, a, b)
    lost, gained, common = _changes(store, old, new, key)
    quotas = share([len(lost), len(gained)], limit)
    parts = [draw(side.lazy(), quota, seed)[0] for side, quota in zip((lost, gained), quotas, strict=True)]
    rows = [*_rows(old, parts[0], "lost"), *_rows(new, parts[1], "gained")]
    kept = common.select(pl.len()).collect().item()
    about = f"{kept:,} rows in both, {len(lost):,} lost, {len(gained):,} gained"
    if len(rows) < len(lost) + len(gained):
        about += f"; {len(rows):,} of these are here, drawn by seed {seed}"
    sentences = {
        NOT_THERE: "It was made from other rows: of other parents, or under another limit.",
        **rules([*old.ledger, *new.ledger]),
    }
    return Page(f"{a} to {b}", about, rows, sentences=sentences)


def _comparable(store: Store, a: str, b: str) -> tuple[Manifest, Manifest, list[str]]:
    """Both manifests, and their key. Raises InputError where their rows cannot be compared."""
    if parse_ref(a)[0] != parse_ref(b)[0]:
        raise InputError(f"{a} and {b} have different names: give two versions of one dataset")
    old, new = store.manifest(a), store.manifest(b)
    for manifest in (old, new):
        if manifest.kind != "dataset":
            raise InputError(f"{manifest.ref} is {manifest.kind_phrase}: diff compares the rows of datasets")
    key = _key(old)
    if key != _key(new):
        raise InputError(f"{a} and {b} have other keys ({', '.join(key)}; {', '.join(_key(new))})")
    return old, new, key


def _changes(
    store: Store, old: Manifest, new: Manifest, key: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.LazyFrame]:
    """Rows of the old version alone and of the new one alone, by id and with reasons, and those in both."""
    old_rows, new_rows = (
        with_texts(store, manifest, "default").with_columns(id=pl.concat_str(key, separator=" "))
        for manifest in (old, new)
    )
    lost = old_rows.join(new_rows, on="id", how="anti").sort("id").collect()
    gained = new_rows.join(old_rows, on="id", how="anti").sort("id").collect()
    common = old_rows.join(new_rows, on="id", how="inner", suffix="_b")
    return _with_reason(store, new, lost), _with_reason(store, old, gained), common


def _key(manifest: Manifest) -> list[str]:
    """The columns that identify a row; a comparison has an id of its own."""
    key = list(manifest.table("default").key)
    return ["comparison_id"] if "comparison_id" in key else key


def _with_reason(store: Store, manifest: Manifest, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the `reason` for which the dataset does not have them."""
    key, ref, dropped = _key(manifest), manifest.ref, []
    columns = {config: table.names for config, table in manifest.tables.items()}
    if "chosen_reply_id" in columns.get("rejected", []):
        ids = pl.col("comparison_id").str.split("-")
        rows = rows.with_columns(chosen_reply_id=ids.list.first(), rejected_reply_id=ids.list.last())
        dropped = [_dropped(store, ref, "rejected", ["chosen_reply_id", "rejected_reply_id"])]
    elif {*key, "reason"} <= set(columns.get("rejected", [])):
        # The text of a dropped question may not be stored: its pairs are found by their ids alone.
        dropped = [_dropped(store, ref, "rejected", key)]
    if "reply_id" in columns.get("rejected_responses", []):
        for side in ("chosen", "rejected"):
            response = _dropped(store, ref, "rejected_responses", ["reply_id"])
            dropped.append(response.rename({"reply_id": f"{side}_reply_id"}))
    for number, reasons in enumerate(dropped):
        keys = [column for column in reasons.columns if column != "reason"]
        unique = reasons.unique(keys, keep="first", maintain_order=True)
        unique = unique.rename({"reason": f"reason{number}"})
        rows = rows.join(unique, on=keys, how="left", maintain_order="left")
    reasons_found = [pl.col(f"reason{number}") for number in range(len(dropped))]
    return rows.with_columns(reason=pl.coalesce(*reasons_found, pl.lit(NOT_THERE)))


def _dropped(store: Store, ref: str, config: str, keys: list[str]) -> pl.DataFrame:
    return store.scan(ref, config).select(*keys, "reason").collect()


def _reasons(lost: pl.DataFrame, gained: pl.DataFrame) -> list[tuple[str, int, int]]:
    counts = [dict(rows["reason"].value_counts().iter_rows()) for rows in (lost, gained)]
    table = [(reason, *(count.get(reason, 0) for count in counts)) for reason in counts[0] | counts[1]]
    return sorted(table, key=lambda row: (-row[1] - row[2], row[0]))


def _causes(old: Manifest, new: Manifest, reasons: list[tuple[str, int, int]]) -> list[str]:
    sentences = []
    for reason, lost, gained in reasons:
        for manifest, count in ((new, lost), (old, gained)):
            partners = manifest.diagnostics.get("dropped_beside", {}).get(reason)
            if partners and count:
                numbers = ", ".join(f"{name} {n:,}" for name, n in partners.items())
                sentences.append(
                    f"{reason} in {manifest.ref}: the other responses to those queries fell to {numbers}"
                )
    return sentences


def _pairs(
    common: pl.LazyFrame, lost: pl.DataFrame, gained: pl.DataFrame
) -> list[tuple[str, int, int, int, str]]:
    chosen, rejected = (pl.col(f"{side}_responder").fill_null("unknown") for side in ("chosen", "rejected"))
    pair = pl.concat_str(chosen, pl.lit(" > "), rejected).alias("pair")
    kept = dict(common.select(pair).collect()["pair"].value_counts().iter_rows())
    sides = [
        rows.group_by(pair, "reason").len().sort("len", "reason", descending=[True, False])
        for rows in (lost, gained)
    ]
    table = []
    for name in sorted(set(kept).union(*(side["pair"] for side in sides))):
        by_side = [side.filter(pair=name) for side in sides]
        gains_and_losses = [
            f"{sign}{n:,} {reason}"
            for sign, rows in zip("-+", by_side, strict=True)
            for _, reason, n in rows.rows()
        ]
        lost_rows, gained_rows = (int(rows["len"].sum()) for rows in by_side)
        table.append((name, kept.get(name, 0), lost_rows, gained_rows, ", ".join(gains_and_losses)))
    return table


def _shifts(old: Manifest, new: Manifest) -> list[Shift]:
    """The measures of both versions side by side: shares as percent, lengths in characters."""
    before, after = _measures(old), _measures(new)
    shifts = []
    for name in before | after:
        form, unit = _FORMS.get(name, (".1%", ""))
        a, b = before.get(name), after.get(name)
        change = ""
        if a is not None and b is not None:
            is_share = form in (POINTS, ".1%")
            change = f"{100 * (b - a):+.1f} points" if is_share else f"{b - a:+{form.lstrip('+')}}"
        is_change = change.strip("+-0., points") != ""
        cells = [_written(number, form) for number in (a, b)]
        shifts.append(Shift(name + unit, cells[0], cells[1], change if is_change else ""))
    return shifts


def _written(number: float | None, form: str) -> str:
    if number is None:
        return "n/a"
    return f"{100 * number:+.1f} points" if form == POINTS else f"{number:{form}}"


POINTS = "points"
"""The form of a difference of shares."""
_FORMS = {
    "length_gap": ("+,.0f", " (characters)"),
    "pairs_per_query": (".2f", ""),
    "surface_beyond_length": (POINTS, ""),
}
"""Measures that are no shares: how their numbers are written, and the unit."""


def _measures(manifest: Manifest) -> dict[str, float]:
    text = manifest.diagnostics.get("text") or {}
    numbers = {row["name"]: float(row["number"]) for row in text.get("findings", ())}
    gap = (text.get("length_gap") or {}).get("q50") if "length_gap" in numbers else None
    return numbers if gap is None else numbers | {"length_gap": gap}


def _rows(manifest: Manifest, frame: pl.DataFrame, change: Literal["gained", "lost"]) -> list[Row]:
    """Rows that only this version has, as people look at them."""
    table = manifest.table("default")
    records = frame.select(*table.names, *ADDED, "reason").iter_rows(named=True)
    return [replace(row_of(record, table.key), change=change) for record in records]
