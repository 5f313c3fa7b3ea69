"""The ladder is the label: which pairs of a query's surviving responses become comparisons.

The pair rule `first` is the released code's, `all` the paper's text (2.1). Survivors come sorted by
query and rank, so the partners of a row are the rows below it: pairs are made by shifting columns,
without a join.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl

from ...datasets.config import source_name
from ...datasets.filters import Filter, with_reason
from ...models.tokens import token_counts
from ...readers.layout import SIDES
from ...readers.reasons import REASONS

Pairing = Literal["first", "all", "extremes"]
LENGTH_RULE = "chosen_too_short"
LENGTH_GAP = "length_gap"
EQUAL_SIDES = Filter(
    "equal_sides",
    "pair",
    REASONS["equal_sides"],
    "almost_data",
    # Of two texts of one length, half a hash of 64 bits is enough.
    (pl.col("chosen_text_hash") == pl.col("rejected_text_hash"))
    & (pl.col("chosen_length") == pl.col("rejected_length")),
)


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
    responses = (
        "the query's surviving responses" if length_over == "survivors" else "all of the query's responses"
    )
    rule = "M - S/2" if length_sd == 0.5 else f"M - {length_sd:g} * S"
    return Filter(
        LENGTH_RULE,
        "pair",
        f"Chosen must be at least as long as rejected, or at least {rule} characters, "
        f"M and S being mean and standard deviation of the length of {responses}.",
        "arXiv 2305.13735, 2.1, heuristic filter; released code",
        (pl.col("chosen_length") < pl.col("rejected_length")) & far_below,
        {"length_sd": length_sd, "length_over": length_over},
    )


def length_gap(most: int, tokenizer: str | None = None) -> Filter:
    """Keep a pair only where the lengths of its sides differ by at most `most` characters, or tokens."""
    unit = f"tokens of `{source_name(tokenizer)}`" if tokenizer else "characters"
    rule = Filter(
        LENGTH_GAP,
        "pair",
        f"Chosen and rejected may differ in length by at most {most:,} {unit}.",
        "OLMo 3 report, 5.3 (there 100 tokens)",
        (pl.col("chosen_length") - pl.col("rejected_length")).abs() > most,
        {"max_length_gap": most},
    )
    if tokenizer is None:
        return rule

    def drop(pairs: pl.DataFrame) -> pl.Series:
        texts = pl.concat([pairs["chosen"], pairs["rejected"]]).unique()
        tokens = pl.Series(token_counts(tokenizer, texts.to_list()), dtype=pl.Int64)
        chosen, rejected = (
            pairs[side].replace_strict(texts, tokens, return_dtype=pl.Int64) for side in SIDES
        )
        return (chosen - rejected).abs() > most

    params = {**rule.params, "length_tokenizer": source_name(tokenizer)}
    return replace(rule, drop=drop, params=params, reads=SIDES)


ALREADY_CHOSEN = Filter(
    "already_chosen",
    "pair",
    "A responder is chosen at most once a query, against the first lower-ranked partner that passes.",
    "released code",
    params={"pairing": "first"},
)


LADDER = Filter(
    "ladder",
    "pair",
    "Every ordered pair of a query's surviving responses, the one that stands higher on the ladder chosen.",
    "arXiv 2305.13735, 2.1",
    params={"pairing": "all"},
)


EXTREMES = Filter(
    "not_extremes",
    "pair",
    "The best of a query's surviving responses over the worst of them, and no pair between.",
    "RIP (arXiv 2501.18578), 3.1",
    params={"pairing": "extremes"},
)


WALKS: dict[Pairing, Filter] = {"first": ALREADY_CHOSEN, "all": LADDER, "extremes": EXTREMES}
OF_SIDES = ("responder", "finish_reason", "response", "text_hash")


def rank_pairs(
    survivors: pl.DataFrame, rules: Sequence[Filter], pairing: Pairing, later_rules: Sequence[Filter] = ()
) -> pl.DataFrame:
    """Every ordered pair of a query's survivors, with the reason why it is dropped, null where kept.

    `survivors`: query (a number), row, rank, length, text_hash, n, total, squares, perhaps rating, each
    query's best first, and the columns that the rules read: responder, finish_reason and response (as
    chosen_responder, ..., chosen) and prompt. Returns query, chosen_row, chosen_rank, chosen_length,
    rejected_row, rejected_rank, rejected_length, reason, sorted by query and ranks; the reason is that of
    the first rule that fails. `later_rules` decide on the pairs that are left when all have been walked: a
    pair that they drop is not replaced.

    Walking a query's pairs in that order, a responder that has been chosen is passed over before
    its pair is tested: so what `already_chosen` dropped comes off first.
    """
    survivors = survivors.drop("reason", strict=False)
    numbers = ("row", "rank", "length")
    query = pl.col("query")
    survivors = survivors.with_columns(
        is_best=query.ne_missing(query.shift(1)), is_worst=query.ne_missing(query.shift(-1))
    )
    texts = [name for name in (*OF_SIDES, "rating") if name in survivors.columns]

    def renamed(side: str) -> dict[str, str]:
        return {name: f"{side}_{name}" for name in (*numbers, *texts)} | {"response": side}

    chosen = survivors.rename(renamed("chosen"), strict=False).drop("is_worst")
    below = survivors.select(query.alias("query_below"), "is_worst", *numbers, *texts)
    below = below.rename(renamed("rejected"), strict=False)
    most = int(survivors.select(pl.col("query").rle().struct.field("len").max()).item() or 1)
    last = survivors.select(pl.col("row").max()).item() or 0
    was_chosen = np.full(last + 1, False)
    walked = []
    for step in range(1, max(most, 2)):
        pairs = chosen.head(-step).hstack(below.slice(step)).filter(pl.col("query") == pl.col("query_below"))
        pairs = with_reason(pairs, rules)
        if pairing == "first":
            rows = pairs["chosen_row"].to_numpy()
            is_repeat = pl.Series(was_chosen[rows])
            was_chosen[rows[pairs["reason"].is_null().to_numpy()]] = True
            reason = pl.when(is_repeat).then(pl.lit(ALREADY_CHOSEN.name)).otherwise("reason")
            pairs = pairs.with_columns(reason=reason)
        if pairing == "extremes":
            is_extreme = pl.col("is_best") & pl.col("is_worst")
            pairs = pairs.with_columns(
                reason=pl.when(is_extreme).then("reason").otherwise(pl.lit(EXTREMES.name))
            )
        pairs = with_reason(pairs, later_rules, pairs["reason"])
        columns = [f"{side}_{name}" for side in SIDES for name in numbers]
        walked.append(pairs.select("query", *columns, "reason"))
    return pl.concat(walked).sort("query", "chosen_rank", "rejected_rank")
