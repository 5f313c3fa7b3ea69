"""Ratings as a label: alone, or where they agree with the ladder; and thresholds on ratings and lengths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import msgspec
import polars as pl

from ...datasets.filters import Filter
from ...datasets.tables import Table
from .tables import RATED, TABLES

Label = Literal["auto", "ladder", "ratings", "both"]
LABELS = ("ratings", "both")
"""Labels that need ratings."""
DISAGREE = "ratings_disagree"
RIP = "RIP (arXiv 2501.18578), 3.3"
_RATING_GAP = pl.col("chosen_rating") - pl.col("rejected_rating")

UNRATED = Filter(
    "unrated", "response", "The response has no rating.", "almost_data", pl.col("rating").is_null()
)


def with_ratings(responses: pl.LazyFrame, ratings: pl.LazyFrame) -> pl.LazyFrame:
    """The responses with their `rating`, null where they have none."""
    keys = ["query_id", "reply_id"]
    return responses.join(ratings.select(*keys, "rating"), keys, "left", maintain_order="left")


def schemas(is_rated: bool, with_texts: Mapping[str, Table]) -> dict[str, Table]:
    """The tables that are not as `TABLES` declares them: `with_texts`, and those with ratings."""
    if not is_rated:
        return dict(with_texts)
    tables = {name: with_texts.get(name, TABLES[name]) for name in ("default", "rejected")}
    return {**with_texts} | {
        name: msgspec.structs.replace(table, columns=(*table.columns, *RATED))
        for name, table in tables.items()
    }


def rated_higher(margin: float) -> Filter:
    """Keep a pair only where chosen is rated higher than rejected, by `margin` or more."""
    by = f", by {margin:g} or more" if margin else ""
    return Filter(
        "not_rated_higher",
        "pair",
        f"Chosen must be rated higher than rejected{by}.",
        "almost_data",
        ~((_RATING_GAP > 0) & _RATING_GAP.ge(margin)),
        {"margin": margin},
    )


def agreement(margin: float, rater: str) -> Filter:
    """Keep a pair of the ladder only where the ratings agree, a tie being no agreement."""
    by = f", by {margin:g} or more" if margin else ""
    return replace(
        rated_higher(margin),
        name=DISAGREE,
        description=f"`{rater}` must rate chosen higher than rejected{by}.",
        source="arXiv 2305.13735, 2.1, as-is filter; OLMo 3 report, 5.3",
        params={"margin": margin, "rater": rater},
    )


def thresholds(
    min_rejected_rating: float | None, min_rejected_chars: int | None, max_rating_gap: float | None
) -> list[Filter]:
    """The filters of RIP: what its rejected response and the gap say of a prompt."""
    rules: Sequence[tuple[str, str, float | None, str, Callable[[float], pl.Expr]]] = (
        (
            *("rejected_rated_low", "min_rejected_rating", min_rejected_rating),
            "Rejected must be rated {:g} or more: bad replies come of bad prompts.",
            pl.col("rejected_rating").lt,
        ),
        (
            *("rejected_too_short", "min_rejected_chars", min_rejected_chars),
            "Rejected must have {} characters or more, as replies to good prompts do.",
            pl.col("rejected_length").lt,
        ),
        (
            *("rating_gap", "max_rating_gap", max_rating_gap),
            "Chosen may be rated {:g} higher at most: unclear prompts get uneven replies.",
            _RATING_GAP.gt,
        ),
    )
    return [
        Filter(name, "pair", sentence.format(bound), RIP, drop(bound), {setting: bound})
        for name, setting, bound, sentence, drop in rules
        if bound is not None
    ]


REASONS = {UNRATED.name, DISAGREE, rated_higher(0).name, *(rule.name for rule in thresholds(0, 0, 0))}


def facts(label: Label) -> list[str]:
    """How the label differs from the paper's, for the card."""
    by_label: dict[Label, list[str]] = {
        "ladder": [
            "No As-is RM: in the paper, a comparison stays only where a reward model that was trained on "
            "StackExchange votes agrees; here the ladder alone decides."
        ],
        "ratings": ["Label: the rating of each response; the paper's is the ladder."],
        "both": [
            "Label: the ladder, where the ratings agree; in the paper, a reward model that was trained on "
            "StackExchange votes, the As-is RM, has to agree."
        ],
    }
    return by_label[label]
