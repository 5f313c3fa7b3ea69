"""Filters are data: a name, the rule as a Polars expression, its parameters, source and one sentence.

The ledger's entries and the card's filter table are made from these objects, so they cannot drift
from what ran.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import polars as pl

from .ledger import Count, Entry, Unit
from .settings_docs import documented

Drop = pl.Expr | Callable[[pl.DataFrame], pl.Series]
"""Which rows are dropped: an expression, or a function of the rows."""
FAILED = "failed"
"""Name of the filter of requests that failed: its rows are counted as failed, not as dropped."""


@documented
@dataclass(frozen=True)
class Filter:
    """A rule that drops rows, with `name` as their reason.

    `drop` is true where a row is dropped: an expression, or a function of the rows for a user's filter. It is
    None where earlier rows decide too (a duplicate, a target reached): then the builder itself decides.
    """

    name: str
    unit: Unit
    description: str
    source: str
    drop: Drop | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """The columns that a function or a user's filter reads."""

    def entry(self, stage: str, n_in: int, kept: int, by_pair: Mapping[str, Count] = {}) -> Entry:
        """This filter's line in the ledger: what is not kept was dropped for `name`, or failed."""
        lost, is_failure = n_in - kept, self.name == FAILED
        return Entry(
            stage=stage,
            filter=self.name,
            unit=self.unit,
            description=self.description,
            params=dict(self.params),
            source=self.source,
            n_in=n_in,
            kept=kept,
            dropped={self.name: lost} if lost and not is_failure else {},
            failed=lost if is_failure else 0,
            by_pair=dict(by_pair),
            undecided=min(kept, getattr(self.drop, "undecided", 0)),
        )


def first_reason(filters: Sequence[Filter]) -> pl.Expr:
    """The name of the first filter that drops the row; null where none does."""
    reason = pl.lit(None, dtype=pl.String)
    for rule in reversed(filters):
        if not isinstance(rule.drop, pl.Expr):
            raise ValueError(f"{rule.name} cannot be decided on a row by itself")
        reason = pl.when(rule.drop).then(pl.lit(rule.name)).otherwise(reason)
    return reason


def with_reason(
    rows: pl.DataFrame, filters: Sequence[Filter], reason: pl.Series | None = None
) -> pl.DataFrame:
    """The rows with `reason`, as `first_reason` gives it; a function sees the rows that earlier filters kept.

    `reason` holds the reasons of earlier filters.
    """
    if reason is None:
        reason = pl.Series("reason", [None], dtype=pl.String).new_from_index(0, len(rows))
    for is_function, rules in groupby(filters, key=lambda rule: callable(rule.drop)):
        if not is_function:
            first = rows.lazy().select(reason=first_reason(list(rules))).collect()["reason"]
            reason = reason.zip_with(reason.is_not_null(), first)
            continue
        for rule in rules:
            assert callable(rule.drop)
            alive = reason.is_null()
            drop = rule.drop(rows.filter(alive)).fill_null(False)
            places = alive.arg_true().filter(drop)
            reason = reason.scatter(places, rule.name)
    return rows.with_columns(reason.alias("reason"))


def account(ledger: list[Entry]) -> str:
    """How many rows each filter dropped, on one line, for the error of a build that has no row left."""
    return "; ".join(
        f"{entry.filter} dropped {sum(entry.dropped.values()):,} of {entry.n_in:,}"
        for entry in ledger
        if entry.dropped
    )


def chain(stage: str, filters: list[Filter], n_in: int, dropped: Mapping[str, int]) -> list[Entry]:
    """Ledger entries of filters applied one after the other, from how many rows each was first to drop.

    `n_in` rows came in; `dropped` has rows by the name of the filter, and may lack those that dropped none.
    """
    entries = []
    for rule in filters:
        kept = n_in - dropped.get(rule.name, 0)
        entries.append(rule.entry(stage, n_in, kept))
        n_in = kept
    return entries


def chain_stages(stages: Mapping[str, list[Filter]], n_in: int, dropped: Mapping[str, int]) -> list[Entry]:
    """Ledger entries of several stages, one after the other, as `chain` makes those of one."""
    entries: list[Entry] = []
    for stage, filters in stages.items():
        entries += chain(stage, filters, entries[-1].kept if entries else n_in, dropped)
    return entries


def count_reasons(reasons: pl.Series) -> dict[str, int]:
    """Reason -> rows; nulls are not counted."""
    return dict(reasons.drop_nulls().cast(pl.String).value_counts().iter_rows())


@dataclass(frozen=True)
class Filtered:
    """Rows after filters: which are kept, which were dropped with their `reason`, and the account."""

    kept: pl.DataFrame
    dropped: pl.DataFrame
    ledger: list[Entry]


def apply_filters(rows: pl.DataFrame, filters: Sequence[Filter], stage: str) -> Filtered:
    """Drop rows by filters, in order; a row is dropped by the first that says so.

    Raises ValueError for a filter without `drop`, which no row can decide by itself.

    >>> empty = Filter("empty", "text", "There is no text.", "example", pl.col("text") == "")
    >>> filtered = apply_filters(pl.DataFrame({"text": ["a", ""]}), [empty], "checks")
    >>> len(filtered.kept), filtered.dropped["reason"].to_list(), filtered.ledger[0].dropped
    (1, ['empty'], {'empty': 1})
    """
    decided = with_reason(rows, filters)
    dropped = decided.filter(pl.col("reason").is_not_null())
    kept = decided.filter(pl.col("reason").is_null()).drop("reason")
    return Filtered(kept, dropped, chain(stage, list(filters), len(rows), count_reasons(dropped["reason"])))
