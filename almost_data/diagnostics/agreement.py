"""Whether comparisons agree with the scores that a judge gave to the same answers."""

from dataclasses import dataclass

import polars as pl

from .probe import wilson


@dataclass(frozen=True)
class Agreement:
    """Reviewed comparisons: the judge agreed, disagreed, or gave both answers the same score."""

    agree: int
    disagree: int
    tie: int

    @property
    def share(self) -> float | None:
        """Agreement, ties left out."""
        decided = self.agree + self.disagree
        return self.agree / decided if decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the share, by Wilson's formula."""
        return None if self.share is None else wilson(self.share, self.agree + self.disagree)

    def __str__(self) -> str:
        if self.share is None or self.interval is None:
            return "n/a"
        low, high = self.interval
        return f"{self.share:.0%} [{100 * low:.0f},{100 * high:.0f}]"


def agreement(comparisons: pl.LazyFrame, reviews: pl.DataFrame) -> Agreement:
    """How often the judge prefers what the comparisons prefer, where it reviewed both answers.

    Reviews in either order count; several reviews of a pair are averaged.
    """
    swapped = reviews.rename(
        {
            "responder_a": "responder_b",
            "responder_b": "responder_a",
            "score_a": "score_b",
            "score_b": "score_a",
        }
    )
    both_orders = pl.concat([reviews, swapped.select(reviews.columns)])
    keys = ["prompt", "responder_a", "responder_b"]
    gaps = (
        both_orders.with_columns(prompt=pl.col("prompt").str.strip_chars())
        .group_by(keys)
        .agg(gap=pl.col("score_a").mean() - pl.col("score_b").mean())
    )
    compared = comparisons.select(
        pl.col("prompt").list.last().struct.field("content").alias("prompt"),
        responder_a="chosen_responder",
        responder_b="rejected_responder",
    )
    gap = compared.join(gaps.lazy(), on=keys).select("gap").collect()["gap"]
    return Agreement(int((gap > 0).sum()), int((gap < 0).sum()), int((gap == 0).sum()))
