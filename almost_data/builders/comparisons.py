"""Comparisons: the ladder is the label, after the heuristic filter.

Response checks, then two survivors a query, then the pair rule with the length rule. Defaults follow
the released code where it and the paper's text differ: `pairing="first"` (the text: every ordered
pair), `length_over="survivors"` and "at least as long" (the text: over all of Y, and "longer than").
"""

from typing import Annotated, Any, Literal

import polars as pl
from msgspec import Meta

from .. import schema
from ..errors import InputError
from ..filters import Filter, account, chain, first_reason, response_checks
from ..generation import Generator
from ..manifest import Count, Entry
from ..ranking import ALREADY_CHOSEN, LADDER, Pairing, length_rule, rank_pairs
from . import BuilderSpec, Built, Config, Parents, Positive, Progress

Check = Literal["too_short", "ends_open", "starts_well", "unfinished", "dont_know", "turn_marker"]


class ComparisonsConfig(Config, frozen=True, kw_only=True):
    """Defaults are the released code's."""

    checks: tuple[Check, ...] = (
        "too_short",
        "ends_open",
        "starts_well",
        "unfinished",
        "dont_know",
        "turn_marker",
    )
    """Response checks to apply, a reason being the first that drops."""
    min_chars: Annotated[int, Meta(ge=0)] = 50
    """A response under this is dropped (`too_short`)."""
    min_survivors: Annotated[int, Meta(ge=2)] = 2
    """A query with fewer surviving responses makes no pair."""
    pairing: Pairing = "first"
    """`first`: a responder is chosen once, against the first partner that passes; `all`: every pair."""
    length_sd: Annotated[float, Meta(ge=0, le=100)] | None = 0.5
    """The length rule's M - length_sd * S; None leaves the rule out."""
    length_over: Literal["survivors", "all"] = "survivors"
    """Whose lengths M and S are taken over."""
    limit: Positive | None = None
    """Use only the first queries by query_id; what `--limit` sets."""


FEW_SURVIVORS = "few_survivors"


def build(config: ComparisonsConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Decide every response, then every ordered pair of a query's survivors."""
    known = {rule.name: rule for rule in response_checks(config.min_chars)}
    checks = [known[name] for name in config.checks]
    rule = length_rule(config.length_sd, config.length_over) if config.length_sd is not None else None
    responses = parents["responses"]("default").filter(pl.col("rank").is_not_null())
    decided = decide_responses(responses, checks, config)
    pairs = rank_pairs(decided.filter(pl.col("reason").is_null()), rule, config.pairing)
    kept = pairs.filter(pl.col("reason").is_null())
    names = dict(decided.select("rank", "responder").unique().iter_rows())
    ledger = [*_response_ledger(decided, checks, config), *_pair_ledger(pairs, rule, config, names)]
    if kept.is_empty():
        raise RuntimeError(
            f"no comparison is left ({account(ledger)}): take more queries, or loosen a filter with --set"
        )
    tables = {
        "default": _default(kept, decided, responses),
        "rejected": _rejected(pairs.filter(pl.col("reason").is_not_null()), decided),
        "rejected_responses": _rejected_responses(decided),
    }
    return Built(
        {name: frame for name, frame in tables.items() if len(frame)},
        ledger,
        _diagnostics(kept, decided, names),
    )


def decide_responses(
    responses: pl.LazyFrame, checks: list[Filter], config: ComparisonsConfig
) -> pl.DataFrame:
    """One row per response, by query and rank, without its text, and the reason why it is dropped.

    `query` numbers the queries by query_id and `row` the rows; `n`, `total` and `squares` are of the
    lengths that the length rule is over.
    """
    light = responses.select(
        "query_id",
        "responder",
        "rank",
        "reply_id",
        "finish_reason",
        length=pl.col("response").str.len_chars().cast(pl.Int64),
        reason=first_reason(checks),
        # 16 hex digits are a number, and numbers sort and compare faster than strings.
        number=pl.col("query_id").str.to_integer(base=16, dtype=pl.UInt64),
    ).collect()
    light = light.sort("number", "rank").with_columns(query=pl.col("number").rle_id()).drop("number")
    if config.limit is not None:
        light = light.filter(pl.col("query") < config.limit)
    alive = pl.col("reason").is_null()
    counted = pl.when(alive).then("length") if config.length_over == "survivors" else pl.col("length")
    sums = light.group_by("query", maintain_order=True).agg(
        survivors=alive.sum(),
        n=counted.count().cast(pl.Int64),
        total=counted.sum(),
        squares=(counted**2).sum(),
    )
    # Queries are numbered from 0 without a gap, so their sums are looked up by place.
    of_query = sums.drop("query")[light["query"]]
    few = alive & (pl.col("survivors") < config.min_survivors)
    return (
        light.hstack(of_query)
        .with_columns(reason=pl.when(few).then(pl.lit(FEW_SURVIVORS)).otherwise("reason"))
        .drop("survivors")
        .with_row_index("row")
    )


def _response_ledger(decided: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig) -> list[Entry]:
    dropped = dict(decided["reason"].drop_nulls().value_counts().iter_rows())
    few = Filter(
        FEW_SURVIVORS,
        "response",
        f"A query needs {config.min_survivors} surviving responses to make a pair.",
        "released code",
        params={"min_survivors": config.min_survivors},
    )
    entries = chain("response checks", checks, len(decided), dropped)
    left = entries[-1].kept if entries else len(decided)
    return entries + chain("survivors", [few], left, dropped)


def _pair_ledger(
    pairs: pl.DataFrame, rule: Filter | None, config: ComparisonsConfig, names: dict[int, str]
) -> list[Entry]:
    """Entries of the pair stage, split by responder pair, in the order of the walk."""
    rules = [r for r in (ALREADY_CHOSEN if config.pairing == "first" else LADDER, rule) if r]
    lost_to = {r.name: (pl.col("reason") == r.name).sum() for r in rules}
    by_pair = pairs.group_by("chosen_rank", "rejected_rank").agg(n=pl.len(), **lost_to)
    rows = by_pair.sort("chosen_rank", "rejected_rank").rows(named=True)
    left = {f"{names[row['chosen_rank']]} > {names[row['rejected_rank']]}": row["n"] for row in rows}
    entries = []
    for one in rules:
        lost = {pair: row[one.name] for pair, row in zip(left, rows, strict=True)}
        split = {p: Count(n, n - lost[p], {one.name: lost[p]} if lost[p] else {}) for p, n in left.items()}
        n_in = sum(left.values())
        left = {pair: count.kept for pair, count in split.items()}
        entries.append(one.entry("pairs", n_in, sum(left.values()), by_pair=split))
    return entries


def _named(pairs: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Ids and responders of pairs, by the rows of `decided` that they are made of."""
    sides = {side: decided[pairs[f"{side}_row"]] for side in ("chosen", "rejected")}
    columns = [
        sides[side][name].alias(f"{side}_{name}") for side in sides for name in ("reply_id", "responder")
    ]
    return pl.DataFrame([sides["chosen"]["query_id"], *columns])


def _rejected(pairs: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    named = _named(pairs, decided).with_columns(pairs["reason"], stage=pl.lit("pairs"))
    return named.select(schema.TABLES["comparisons"]["rejected"].names)


def _rejected_responses(decided: pl.DataFrame) -> pl.DataFrame:
    few = pl.col("reason") == FEW_SURVIVORS
    return (
        decided.filter(pl.col("reason").is_not_null())
        .with_columns(stage=pl.when(few).then(pl.lit("survivors")).otherwise(pl.lit("response checks")))
        .select(schema.TABLES["comparisons"]["rejected_responses"].names)
    )


def _default(kept: pl.DataFrame, decided: pl.DataFrame, responses: pl.LazyFrame) -> pl.DataFrame:
    """The comparisons with their texts, which are read only now, and only those that are needed."""
    named = _named(kept, decided)
    needed = pl.concat([named["chosen_reply_id"], named["rejected_reply_id"]]).unique()
    texts = (
        responses.select("reply_id", "prompt", "response")
        .join(needed.to_frame("reply_id").lazy(), on="reply_id", how="semi")
        .collect()
    )
    chosen = texts.rename({"reply_id": "chosen_reply_id", "response": "chosen"})
    rejected = texts.select(
        pl.col("reply_id").alias("rejected_reply_id"), pl.col("response").alias("rejected")
    )
    joined = named.join(chosen, on="chosen_reply_id", maintain_order="left").join(
        rejected, on="rejected_reply_id", maintain_order="left"
    )

    def message(role: str, column: str) -> pl.Expr:
        turn = pl.struct(pl.lit(role).alias("role"), pl.col(column).alias("content"))
        return pl.concat_list(turn).alias(column)

    unscored = [pl.lit(None, pl.Float64).alias(name) for name in ("asis_chosen", "asis_rejected", "asis_gap")]
    return joined.with_columns(
        message("user", "prompt"),
        message("assistant", "chosen"),
        message("assistant", "rejected"),
        *unscored,
        comparison_id=pl.concat_str("chosen_reply_id", pl.lit("-"), "rejected_reply_id"),
    ).select(schema.TABLES["comparisons"]["default"].names)


def _diagnostics(kept: pl.DataFrame, decided: pl.DataFrame, names: dict[int, str]) -> dict[str, Any]:
    columns = {
        "comparisons": pl.len(),
        "share_chosen_longer": (pl.col("chosen_length") > pl.col("rejected_length")).mean(),
        "mean_chosen_chars": pl.col("chosen_length").mean(),
        "mean_rejected_chars": pl.col("rejected_length").mean(),
    }
    equal = (pl.col("chosen_length") == pl.col("rejected_length")).mean()
    ranks = ["chosen_rank", "rejected_rank"]
    pairs = kept.group_by(ranks).agg(**columns).sort(ranks).rows(named=True)
    responders = decided.group_by("rank").agg(
        responses=pl.len(),
        survivors=pl.col("reason").is_null().sum(),
        share_cut_at_token_limit=(pl.col("finish_reason") == "length").mean(),
    )
    queries = decided["query"].n_unique()
    return {
        **kept.select(**columns, share_equal_length=equal).row(0, named=True),
        "queries": queries,
        "queries_with_a_comparison": kept["query"].n_unique(),
        "comparisons_per_query": len(kept) / queries,
        "responder_pairs": [
            {
                "chosen_responder": names[row.pop("chosen_rank")],
                "rejected_responder": names[row.pop("rejected_rank")],
                **row,
            }
            for row in pairs
        ],
        "responders": [
            {"responder": names[row.pop("rank")], **row} for row in responders.sort("rank").rows(named=True)
        ],
    }


def pins(config: ComparisonsConfig, generator: Generator) -> dict[str, Any]:
    if len(set(config.checks)) < len(config.checks):
        raise InputError("comparisons.checks: a check stands twice")
    return {}


SPEC = BuilderSpec("comparisons", 1, ComparisonsConfig, ("responses",), build, pins)
