"""Filters are data: a name, the rule as a Polars expression, its parameters, source and one sentence.

The ledger's entries and the card's filter table are made from these objects, so they cannot drift
from what ran. The checks of the paper stand in `response_checks`, their threshold in `ComparisonsConfig`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import polars as pl

from .manifest import Count, Entry, Unit

DONT_KNOW = r"(?i)(don['\u2019]t|do not)\s+know"
TURN_MARKERS = ["Human:", "<Image>"]


@dataclass(frozen=True)
class Filter:
    """`drop` is true where a row is dropped, with `name` as its reason.

    A user's filter may be a function of the rows. It is None where what came before decides too (a
    target reached, a duplicate), so that the builder walks the rows in order and gives the reason itself.
    """

    name: str
    unit: Unit
    description: str
    source: str
    drop: pl.Expr | Callable[[pl.DataFrame], pl.Series] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """The columns that a user's filter reads."""

    def entry(
        self,
        stage: str,
        n_in: int,
        kept: int,
        failed: int = 0,
        by_pair: dict[str, Count] | None = None,
    ) -> Entry:
        """This filter's line in the ledger: what is neither kept nor failed was dropped for `name`."""
        dropped = n_in - kept - failed
        return Entry(
            stage=stage,
            filter=self.name,
            unit=self.unit,
            description=self.description,
            params=dict(self.params),
            source=self.source,
            n_in=n_in,
            kept=kept,
            dropped={self.name: dropped} if dropped else {},
            failed=failed,
            by_pair=by_pair or {},
        )


def response_checks(min_chars: int) -> list[Filter]:
    """The heuristic filter on single responses (paper 2.1, appendix B; lists as in the released code)."""
    text = pl.col("response")
    source = "paper 2.1, heuristic filter; released code"

    def check(name: str, description: str, drop: pl.Expr, **params: Any) -> Filter:
        return Filter(name, "response", description, source, drop, params)

    return [
        check(
            "too_short",
            f"A response under {min_chars} characters is most often a failed generation.",
            text.str.len_chars() < min_chars,
            min_chars=min_chars,
        ),
        check(
            "ends_open",
            "A response that ends in a question mark or a colon asks back or stops before its point.",
            text.str.ends_with("?") | text.str.ends_with(":"),
            ends=["?", ":"],
        ),
        check(
            "starts_well",
            'A response that starts with "well", in any case, tends to ramble or evade.',
            text.str.head(4).str.to_lowercase() == "well",
            start="well",
        ),
        check(
            "unfinished",
            "A response whose last character is neither a full stop nor an exclamation mark was cut off.",
            ~(text.str.ends_with(".") | text.str.ends_with("!")),
            ends=[".", "!"],
        ),
        check(
            "dont_know",
            'A response that says "don\'t know" or "do not know", in any case, does not answer.',
            text.str.contains(DONT_KNOW),
            phrases=["don't know", "do not know"],
        ),
        check(
            "turn_marker",
            "A response with `Human:` or `<Image>` in it, in any case, runs into another turn or document.",
            text.str.contains_any(TURN_MARKERS, ascii_case_insensitive=True),
            markers=TURN_MARKERS,
        ),
    ]


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
    """The rows with `reason`, as `first_reason` gives it; a user's filter sees what those above it kept.

    `reason` is what other filters have said before.
    """
    if reason is None:
        reason = pl.Series("reason", [None], dtype=pl.String).new_from_index(0, len(rows))
    for asked, some in groupby(filters, key=lambda rule: callable(rule.drop)):
        if not asked:
            given = rows.lazy().select(reason=first_reason(list(some))).collect()["reason"]
            reason = reason.zip_with(reason.is_not_null(), given)
            continue
        for rule in some:
            assert callable(rule.drop)
            alive = reason.is_null()
            drop = rule.drop(rows.filter(alive)).fill_null(False)
            places = alive.arg_true().filter(drop)
            reason = reason.scatter(places, rule.name)
    return rows.with_columns(reason.alias("reason"))


def account(ledger: list[Entry]) -> str:
    """Which filters took how much, on one line, for the message of a build that has no row left."""
    return "; ".join(f"{e.filter} kept {e.kept} of {e.n_in}" for e in ledger if e.dropped)


def chain(stage: str, filters: list[Filter], n_in: int, dropped: Mapping[str, int]) -> list[Entry]:
    """Ledger entries of filters applied one after the other, from how many rows each was first to drop."""
    entries = []
    for rule in filters:
        kept = n_in - dropped.get(rule.name, 0)
        entries.append(rule.entry(stage, n_in, kept))
        n_in = kept
    return entries
