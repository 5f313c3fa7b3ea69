"""How often comparisons agree with a judge's preferences between the same answers, length apart.

A judge prefers longer answers, and so do many filters. So the share is given plain, balanced by length (the
mean of the share where the chosen answer is the longer one and of that where it is the shorter one), and on
pairs of about equal length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from ..datasets.tables import last_turn
from .probe import interval

NEAR = 100
"""Characters by which two answers of about equal length differ at most."""


@dataclass(frozen=True)
class Verdicts:
    """A judge's preferences."""

    rows: pl.DataFrame
    """`query_id`; `a` and `b`, two answers to it; `gap`, how far the judge prefers `a`, negative for `b`."""
    answers_by: Literal["responder", "text"]
    """What names an answer in `a` and `b`."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Why rows of the source hold no preference -> how many."""


@dataclass(frozen=True)
class Share:
    """A share of pairs with its 95% interval, which holds the pairs of a query together."""

    pairs: int
    value: float | None
    """None where there is no pair, or none of one of the groups that it is a mean over."""
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return "n/a"
        return f"{self.value:.1%} ({100 * self.low:.0f}-{100 * self.high:.0f})"


@dataclass(frozen=True)
class Agreement:
    """The judge's verdicts on comparisons. Its ties are in no share."""

    ties: int | None
    """None for preferences, whose ties name no texts, and where no two contradict each other."""
    plain: Share
    balanced: Share
    """Over pairs of unequal length."""
    near: Share
    """Over pairs within `NEAR` characters."""


def agreement(comparisons: pl.LazyFrame, verdicts: Verdicts) -> Agreement:
    """How often the judge prefers what the comparisons prefer, where it decided between both answers.

    Verdicts in either order count; several on a pair are averaged.
    """
    turned = verdicts.rows.select("query_id", a="b", b="a", gap=-pl.col("gap"))
    keys = ["query_id", "a", "b"]
    gaps = pl.concat([verdicts.rows.select(turned.columns), turned]).group_by(keys).agg(pl.col("gap").mean())
    texts = {side: last_turn(side) for side in ("chosen", "rejected")}
    names = [
        pl.col(f"{side}_responder") if verdicts.answers_by == "responder" else text.str.strip_chars()
        for side, text in texts.items()
    ]
    lengths = [text.str.len_chars().cast(pl.Int64) for text in texts.values()]
    compared = comparisons.select("query_id", a=names[0], b=names[1], length_gap=lengths[0] - lengths[1])
    judged = compared.join(gaps.lazy(), on=keys).select("query_id", "length_gap", "gap").collect()
    decided = judged.filter(pl.col("gap") != 0)
    unequal = decided.filter(pl.col("length_gap") != 0)
    ties = len(judged) - len(decided)
    return Agreement(
        ties=ties if ties or verdicts.answers_by == "responder" else None,
        plain=_share(decided),
        balanced=_share(unequal, (unequal["length_gap"] > 0, unequal["length_gap"] < 0)),
        near=_share(decided.filter(pl.col("length_gap").abs() <= NEAR)),
    )


def _share(pairs: pl.DataFrame, groups: Sequence[pl.Series] = ()) -> Share:
    """The share of pairs that the judge agrees with, or the mean of that share over the groups."""
    if not len(pairs) or not all(group.any() for group in groups):
        return Share(len(pairs), None)
    agrees = (pairs["gap"] > 0).cast(pl.Float64).to_numpy()
    strata = [group.to_numpy() for group in groups] or [np.ones(len(pairs), dtype=bool)]
    value = float(np.mean([agrees[stratum].mean() for stratum in strata]))
    return Share(len(pairs), value, *interval(agrees, pairs["query_id"], strata[0]))
