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
from ..filters import Filter, chain, first_reason, response_checks
from ..generation import Generator
from ..manifest import Count, Entry
from ..ranking import ALREADY_CHOSEN, Pairing, all_pairs, length_rule, rank_pairs
from . import Built, BuilderSpec, Config, Parents, Positive, Progress

Check = Literal["too_short", "ends_open", "starts_well", "unfinished", "dont_know", "turn_marker"]


class ComparisonsConfig(Config, kw_only=True):
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
    """`first`: a responder is chosen once, against the first partner that passes. `all`: every ordered pair."""
    length_sd: Annotated[float, Meta(ge=0)] | None = 0.5
    """The length rule's M - length_sd * S; None leaves the rule out."""
    length_over: Literal["survivors", "all"] = "survivors"
    """Whose lengths M and S are taken over."""
    limit: Positive | None = None
    """Use only the first queries by query_id; what `--limit` sets."""


FEW_SURVIVORS = "few_survivors"


def build(config: ComparisonsConfig, parents: Parents, generator: Generator, progress: Progress) -> Built:
    """Decide every response, then every ordered pair of a query's survivors."""
    responses = _responses(parents["responses"]("default"), config)
    known = {rule.name: rule for rule in response_checks(config.min_chars)}
    checks = [known[name] for name in config.checks]
    decided = _decide_responses(responses, checks, config)
    survivors = decided.filter(pl.col("reason").is_null())
    rule = length_rule(config.length_sd, config.length_over) if config.length_sd is not None else None
    pairs = rank_pairs(all_pairs(survivors.drop("reason", "prompt", "response").lazy()), rule, config.pairing)
    pairs = pairs.collect().sort("query_id", "chosen_rank", "rejected_rank")
    kept = pairs.filter(pl.col("reason").is_null())
    ledger = [
        *_response_ledger(decided, checks, config),
        *_pair_ledger(pairs, rule, config),
    ]
    if kept.is_empty():
        account = "; ".join(f"{e.filter} kept {e.kept} of {e.n_in}" for e in ledger if e.dropped)
        raise RuntimeError(
            f"no comparison is left ({account}): give more queries (--limit), or loosen a filter with --set"
        )
    stage = (
        pl.when(pl.col("reason") == FEW_SURVIVORS)
        .then(pl.lit("survivors"))
        .otherwise(pl.lit("response checks"))
    )
    tables = {
        "default": _default(kept, survivors),
        "rejected": pairs.filter(pl.col("reason").is_not_null())
        .with_columns(stage=pl.lit("pairs"))
        .select(schema.TABLES["comparisons"]["rejected"].names),
        "rejected_responses": decided.filter(pl.col("reason").is_not_null())
        .with_columns(stage=stage)
        .select(schema.TABLES["comparisons"]["rejected_responses"].names),
    }
    return Built(
        {config: frame for config, frame in tables.items() if len(frame)},
        ledger,
        _diagnostics(kept, decided, survivors),
    )


def _responses(responses: pl.LazyFrame, config: ComparisonsConfig) -> pl.DataFrame:
    ranked = responses.filter(pl.col("rank").is_not_null())
    if config.limit is not None:
        first = ranked.select("query_id").unique().sort("query_id").head(config.limit)
        ranked = ranked.join(first, on="query_id", how="semi")
    return ranked.sort("query_id", "rank").collect()


def _decide_responses(
    responses: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig
) -> pl.DataFrame:
    """Adds `reason`, and `length`, `n`, `total`, `squares` of the lengths that the length rule is over."""
    length = pl.col("length")
    checked = responses.with_columns(
        length=pl.col("response").str.len_chars().cast(pl.Int64), reason=first_reason(checks)
    )
    survives = pl.col("reason").is_null()
    counted = length.filter(survives) if config.length_over == "survivors" else length
    sums = checked.group_by("query_id").agg(
        survivors=survives.sum(),
        n=counted.len().cast(pl.Int64),
        total=counted.sum(),
        squares=(counted**2).sum(),
    )
    few = survives & (pl.col("survivors") < config.min_survivors)
    return (
        checked.join(sums, on="query_id")
        .with_columns(reason=pl.when(few).then(pl.lit(FEW_SURVIVORS)).otherwise("reason"))
        .drop("survivors")
        .sort("query_id", "rank")
    )


def _response_ledger(decided: pl.DataFrame, checks: list[Filter], config: ComparisonsConfig) -> list[Entry]:
    dropped = _tally(decided, "reason")
    few = Filter(
        FEW_SURVIVORS,
        "response",
        f"A query needs {config.min_survivors} surviving responses to make a pair.",
        "released code",
        pl.col("reason") == FEW_SURVIVORS,
        {"min_survivors": config.min_survivors},
    )
    entries = chain("response checks", checks, len(decided), dropped)
    left = entries[-1].kept if entries else len(decided)
    return entries + chain("survivors", [few], left, dropped)


def _pair_ledger(pairs: pl.DataFrame, rule: Filter | None, config: ComparisonsConfig) -> list[Entry]:
    """Entries of the pair stage, split by responder pair, in the order of the walk."""
    by_pair = pairs.group_by("chosen_rank", "rejected_rank", "chosen_responder", "rejected_responder").agg(
        n=pl.len(), **{name: (pl.col("reason") == name).sum() for name in _PAIR_REASONS}
    )
    rows = by_pair.sort("chosen_rank", "rejected_rank").rows(named=True)
    rules = [r for r in (ALREADY_CHOSEN if config.pairing == "first" else None, rule) if r]
    entries = []
    left = {f"{row['chosen_responder']} > {row['rejected_responder']}": row["n"] for row in rows}
    for one in rules:
        lost = {pair: row[one.name] for pair, row in zip(left, rows, strict=True)}
        split = {p: Count(n, n - lost[p], {one.name: lost[p]} if lost[p] else {}) for p, n in left.items()}
        n_in = sum(left.values())
        left = {pair: count.kept for pair, count in split.items()}
        entries.append(one.entry("pairs", n_in, sum(left.values()), by_pair=split))
    return entries


_PAIR_REASONS = (ALREADY_CHOSEN.name, "chosen_too_short")


def _default(kept: pl.DataFrame, survivors: pl.DataFrame) -> pl.DataFrame:
    texts = survivors.select("reply_id", "prompt", "response")
    chosen = texts.rename({"reply_id": "chosen_reply_id", "response": "chosen"})
    rejected = texts.select(
        pl.col("reply_id").alias("rejected_reply_id"), pl.col("response").alias("rejected")
    )
    joined = kept.join(chosen, on="chosen_reply_id", maintain_order="left").join(
        rejected, on="rejected_reply_id", maintain_order="left"
    )

    def message(role: str, column: str) -> pl.Expr:
        return pl.concat_list(pl.struct(pl.lit(role).alias("role"), pl.col(column).alias("content"))).alias(
            column
        )

    nothing = [
        pl.lit(None, dtype=pl.Float64).alias(name) for name in ("asis_chosen", "asis_rejected", "asis_gap")
    ]
    return joined.with_columns(
        message("user", "prompt"),
        message("assistant", "chosen"),
        message("assistant", "rejected"),
        *nothing,
        comparison_id=pl.concat_str("chosen_reply_id", pl.lit("-"), "rejected_reply_id"),
    ).select(schema.TABLES["comparisons"]["default"].names)


def _diagnostics(kept: pl.DataFrame, decided: pl.DataFrame, survivors: pl.DataFrame) -> dict[str, Any]:
    longer = pl.col("chosen_length") > pl.col("rejected_length")
    equal = pl.col("chosen_length") == pl.col("rejected_length")
    columns = {
        "comparisons": pl.len(),
        "share_chosen_longer": longer.mean(),
        "mean_chosen_chars": pl.col("chosen_length").mean(),
        "mean_rejected_chars": pl.col("rejected_length").mean(),
    }
    pairs = (
        kept.group_by("chosen_rank", "rejected_rank", "chosen_responder", "rejected_responder")
        .agg(**columns)
        .sort("chosen_rank", "rejected_rank")
        .drop("chosen_rank", "rejected_rank")
    )
    responders = (
        decided.group_by("rank", "responder")
        .agg(
            responses=pl.len(),
            survivors=pl.col("reason").is_null().sum(),
            share_cut_at_token_limit=(pl.col("finish_reason") == "length").mean(),
        )
        .sort("rank")
        .drop("rank")
    )
    return {
        **kept.select(**columns, share_equal_length=equal.mean()).row(0, named=True),
        "queries": decided["query_id"].n_unique(),
        "queries_with_a_comparison": kept["query_id"].n_unique(),
        "comparisons_per_query": len(kept) / decided["query_id"].n_unique(),
        "responder_pairs": pairs.rows(named=True),
        "responders": responders.rows(named=True),
    }


def _tally(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(frame.filter(pl.col(column).is_not_null()).group_by(column).len().iter_rows())


def pins(config: ComparisonsConfig, generator: Generator) -> dict[str, Any]:
    if len(set(config.checks)) < len(config.checks):
        raise InputError("comparisons.checks: a check stands twice")
    return {}


SPEC = BuilderSpec("comparisons", 1, ComparisonsConfig, ("responses",), build, pins)
