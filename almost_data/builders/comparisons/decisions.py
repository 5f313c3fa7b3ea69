"""Decides the responses to a range of queries, then the ordered pairs of those that survive."""

from itertools import takewhile

import polars as pl

from ...datasets.filters import Filter, first_reason, with_reason
from ...readers.layout import SIDES
from .accounts import FEW_SURVIVORS
from .config import ComparisonsConfig
from .ranking import Pairing, rank_pairs


def few_survivors(config: ComparisonsConfig) -> Filter:
    """Drop the responses that are left of a query with too few."""
    return Filter(
        FEW_SURVIVORS,
        "response",
        f"A query needs {config.min_survivors} surviving responses to make a pair.",
        "released code",
        params={"min_survivors": config.min_survivors},
    )


def decide_responses(texts: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig) -> pl.DataFrame:
    """One row per response, by query and rank, without its text, and the reason why it is dropped.

    `row` is its place in `texts`; `query` numbers the queries from 0; `text_hash` is that of the text. `n`,
    `total` and `squares` are number, sum and sum of squares of the lengths that the length rule is over.
    """
    length = pl.col("response").str.len_chars().cast(pl.Int64)
    expressions = list(takewhile(lambda rule: isinstance(rule.drop, pl.Expr), checks))
    responses = (
        texts.lazy()
        .select(
            "rank",
            "finish_reason",
            "rating",
            # 16 hex digits are a number, and numbers sort and compare faster than strings.
            number=pl.col("query_id").str.to_integer(base=16, dtype=pl.UInt64),
            length=length,
            text_hash=(pl.col("response").hash() & 0xFFFF_FFFF).cast(pl.UInt32),
            reason=first_reason(expressions),
        )
        .with_row_index("row")
        .collect()
    )
    if functions := checks[len(expressions) :]:
        rows = texts.hstack([responses["length"]])
        decided = with_reason(rows, functions, responses["reason"])
        responses = responses.with_columns(decided["reason"])
    is_rated = config.label == "ratings"
    best_first = ["rating", "rank"] if is_rated else ["rank"]
    # Only a rating is null, and a sort without `nulls_last` takes half as long.
    descending = [False, *(name == "rating" for name in best_first)]
    responses = responses.sort("number", *best_first, descending=descending, nulls_last=is_rated)
    responses = responses.with_columns(query=pl.col("number").rle_id()).drop("number")
    return _with_length_sums(responses, config)


def _with_length_sums(responses: pl.DataFrame, config: ComparisonsConfig) -> pl.DataFrame:
    """Responses with `n`, `total` and `squares` of their query; those of a query with too few are dropped."""
    alive = pl.col("reason").is_null()
    counted = pl.when(alive).then("length") if config.length_over == "survivors" else pl.col("length")
    sums = responses.group_by("query", maintain_order=True).agg(
        survivors=alive.sum(),
        n=counted.count().cast(pl.Int64),
        total=counted.sum(),
        squares=(counted**2).sum(),
    )
    # Queries are numbered from 0 without a gap, so their sums are looked up by place.
    of_query = sums.drop("query")[responses["query"]]
    has_few = alive & (pl.col("survivors") < config.min_survivors)
    return (
        responses.hstack(of_query)
        .with_columns(reason=pl.when(has_few).then(pl.lit(FEW_SURVIVORS)).otherwise("reason"))
        .drop("survivors")
    )


def pair_up(
    texts: pl.DataFrame,
    decided: pl.DataFrame,
    rules: list[Filter],
    pairing: Pairing,
    later_rules: list[Filter],
) -> pl.DataFrame:
    """The pairs of the survivors, decided (`ranking.rank_pairs`), with the text that the rules read."""
    survivors = decided.filter(pl.col("reason").is_null()).drop("finish_reason")
    reads = {name for rule in rules for name in rule.reads}
    names = {name.removeprefix(f"{side}_") for side in SIDES for name in reads}
    names = {"response" if name in SIDES else name for name in names}
    missing = names & set(texts.columns) - set(survivors.columns)
    columns = [texts[name].gather(survivors["row"]) for name in sorted(missing)]
    return rank_pairs(survivors.hstack(columns), rules, pairing, later_rules)
