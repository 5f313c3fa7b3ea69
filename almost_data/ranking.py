"""The ladder is the label: which pairs of a query's surviving responses become comparisons.

Input is one row per surviving response, output one row per ordered pair of a query's survivors,
with the reason why it is dropped, null where it is kept (paper 2.1). The pair rule `first` is the
released code's, `all` the paper's text.
"""

from typing import Literal

import polars as pl

from .filters import Filter

Pairing = Literal["first", "all"]


def length_rule(length_sd: float, length_over: str) -> Filter:
    """Keep a pair if chosen is at least as long as rejected, or at least `M - length_sd * S` characters.

    M and S are mean and population standard deviation of the lengths of the query's responses:
    columns `n`, `total`, `squares` hold their number, sum and sum of squares. The test is done in
    whole numbers, so no rounding decides a tie: with d = total - n * length,
    length >= M - f * S  <=>  d <= 0  or  d^2 <= f^2 * (n * squares - total^2).
    """
    d = pl.col("total") - pl.col("n") * pl.col("chosen_length")
    spread = pl.col("n") * pl.col("squares") - pl.col("total") ** 2
    far_below = (d > 0) & (d.cast(pl.Float64) ** 2 > length_sd**2 * spread.cast(pl.Float64))
    what = "the query's surviving responses" if length_over == "survivors" else "all of the query's responses"
    rule = "M - S/2" if length_sd == 0.5 else f"M - {length_sd:g} * S"
    return Filter(
        "chosen_too_short",
        "pair",
        f"Chosen must be at least as long as rejected, or at least {rule} characters, "
        f"M and S being mean and standard deviation of the length of {what}.",
        "paper 2.1, heuristic filter; released code",
        (pl.col("chosen_length") < pl.col("rejected_length")) & far_below,
        {"length_sd": length_sd, "length_over": length_over},
    )


ALREADY_CHOSEN = Filter(
    "already_chosen",
    "pair",
    "A responder is chosen at most once a query, against the first lower-ranked partner that passes.",
    "released code",
    pl.col("rejected_rank") > pl.col("first_partner"),
    {"pairing": "first"},
)


def all_pairs(survivors: pl.LazyFrame) -> pl.LazyFrame:
    """Every ordered pair of a query's survivors, higher-ranked one first.

    `survivors`: query_id, reply_id, responder, rank, length, n, total, squares. Adds nothing but
    prefixes: chosen_*, rejected_*.
    """
    side = ["query_id", "reply_id", "responder", "rank", "length"]
    chosen = survivors.rename({c: f"chosen_{c}" for c in side[1:]})
    rejected = survivors.select("query_id", *[pl.col(c).alias(f"rejected_{c}") for c in side[1:]])
    return chosen.join(rejected, on="query_id").filter(pl.col("chosen_rank") < pl.col("rejected_rank"))


def rank_pairs(pairs: pl.LazyFrame, rule: Filter | None, pairing: Pairing) -> pl.LazyFrame:
    """`pairs` with a `reason` column: null, the length rule's name, or `already_chosen`.

    Walking a query's pairs in ladder order, a responder that has been chosen is passed over before
    its pair is tested: so what `already_chosen` dropped comes off first.
    """
    fails = rule.drop if rule else pl.lit(False)
    reason = pl.when(fails).then(pl.lit(rule.name)) if rule else pl.lit(None, dtype=pl.String)
    if pairing == "all":
        return pairs.with_columns(reason=reason)
    partner = pl.when(~fails).then(pl.col("rejected_rank"))
    first = partner.min().over("query_id", "chosen_rank")
    # Null first_partner: nobody passed, so the responder never was chosen.
    chosen_before = ALREADY_CHOSEN.drop.fill_null(False)
    return (
        pairs.with_columns(first_partner=first)
        .with_columns(reason=pl.when(chosen_before).then(pl.lit(ALREADY_CHOSEN.name)).otherwise(reason))
        .drop("first_partner")
    )
