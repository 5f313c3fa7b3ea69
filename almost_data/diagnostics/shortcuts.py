"""How exposed a set of comparisons is to shortcuts, in numbers and in one sentence each.

A reward model learns whatever tells chosen from rejected. Where length, punctuation or a stock phrase
does, it may learn that and nothing else; where texts repeat, the set is smaller than its rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from .benchmarks import contaminated, read_benchmark
from .overlap import near_twins
from .probe import draw, probe

__all__ = [
    "RULES",
    "SAMPLE",
    "Rule",
    "contamination",
    "diagnose",
    "plain",
    "read_benchmark",
    "sampled_queries",
]

SAMPLE = 50_000
"""Comparisons whose texts are read at most."""
BINS = 40


@dataclass(frozen=True)
class Rule:
    """What a number is called, and what is said of it: the first step that it reaches."""

    measure: str
    steps: tuple[tuple[float, str, str], ...]
    """From which number on, how bad that is (fine, watch, worry), and the sentence."""


ANY, WORSE = 1e-12, -9.0
RULES = {
    # Of the comparisons, in how many the longer response is the chosen one; equal lengths count half.
    "always_longer": Rule(
        "always picking the longer response is right",
        (
            (0.70, "worry", "Length gives most of the label away: what learns here may learn length alone."),
            (0.60, "watch", "Length tells part of the label: a reward model must beat this number."),
            (0.40, "fine", "Length says little about the label."),
            (0.30, "watch", "Shorter responses win more often: a model may learn to be brief."),
            (0.00, "worry", "Shortness gives most of the label away: what learns here may learn it alone."),
        ),
    ),
    # Median of chosen - rejected, as a share of the median length of rejected.
    "length_gap": Rule(
        "chosen minus rejected, in characters (median; 5% to 95%)",
        (
            (0.25, "watch", "The typical chosen response is longer by a quarter or more."),
            (-0.20, "fine", "The typical comparison has sides of similar length."),
            (-9e9, "watch", "The typical chosen response is shorter by a fifth or more."),
        ),
    ),
    # Lower end of the interval of the probe's accuracy, or how far length alone gets if that is more, as
    # length is form too; 0 where the interval holds 50% and length does not reach 60%, WORSE where it
    # ends below 50%.
    "probe": Rule(
        "a model that sees only the surface is right",
        (
            (
                0.70,
                "worry",
                "Form, length included, gives most of the label away: a score here need not be judgement.",
            ),
            (0.60, "watch", "Form, length included, tells part of the label: a reward model must beat both."),
            (0.50, "fine", "Form alone tells a little of the label."),
            (0.00, "fine", "Form alone is no better than a coin."),
            (WORSE, "fine", "On unseen queries this model is wrong more often than right: it learnt noise."),
        ),
    ),
    # Lower end of the same interval, less the accuracy of the better of always-longer and always-shorter;
    # WORSE where the accuracy itself is below that.
    "probe_over_length": Rule(
        "the surface beyond length",
        (
            (
                0.03,
                "watch",
                "More than length shows: see the strongest features. Equal lengths do not cure it.",
            ),
            (-1.0, "fine", "The rest of the surface adds little to length."),
            (
                WORSE,
                "fine",
                "On unseen queries the model does not reach length alone: what else shows may be noise.",
            ),
        ),
    ),
    # Of the distinct texts.
    "prompts": Rule(
        "prompts with a near twin",
        (
            (
                0.10,
                "worry",
                "Many prompts are asked twice: the set is smaller than it looks, and twins of "
                "`train` prompts in `test` flatter a score.",
            ),
            (0.01, "watch", "Some prompts are asked twice; twins can stand in both `train` and `test`."),
            (0.00, "fine", "Next to no prompt is asked twice."),
        ),
    ),
    "responses": Rule(
        "responses with a near twin",
        (
            (
                0.20,
                "worry",
                "Many responses say the same in nearly the same words: there is little to learn from.",
            ),
            (0.05, "watch", "Some responses say the same in nearly the same words."),
            (0.00, "fine", "Next to no response is written twice."),
        ),
    ),
    # The most frequent response, as a share of the queries.
    "boilerplate": Rule(
        "queries that got the most frequent response",
        (
            (0.02, "worry", "A stock answer fits any prompt: a model may learn its wording as a label."),
            (
                0.005,
                "watch",
                "A stock answer recurs: see below, and whether it is mostly chosen or rejected.",
            ),
            (0.00, "fine", "There is no stock answer to speak of."),
        ),
    ),
    # Of the comparisons.
    "identical": Rule(
        "comparisons whose sides are the same text",
        ((ANY, "worry", "These teach nothing: leave them out."), (0.0, "fine", "None.")),
    ),
    "empty": Rule(
        "comparisons with an empty side",
        ((ANY, "worry", "These teach only that text beats no text: leave them out."), (0.0, "fine", "None.")),
    ),
    # Mean number.
    "pairs_per_query": Rule(
        "comparisons per query that has any",
        (
            (
                2.5,
                "watch",
                "Comparisons of a query share responses and are not independent: sample by query.",
            ),
            (1.5, "fine", "Several comparisons share a query and responses: split by query, as here."),
            (0.0, "fine", "Most comparisons are of a query of their own."),
        ),
    ),
    # Of our queries.
    "contamination": Rule(
        "queries that share a run of words with the benchmark",
        (
            (
                ANY,
                "worry",
                "Look at these queries before this benchmark judges a model that was trained here.",
            ),
            (0.0, "fine", "None."),
        ),
    ),
}


def diagnose(pairs: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """What the texts of comparisons give away: numbers, and `findings`, a sentence for each.

    `pairs` has comparison_id, query_id, prompt, chosen and rejected as text, and where they are known
    chosen_responder and rejected_responder. Of more than SAMPLE rows, those of a seeded sample of the
    queries are read. The result is JSON data; the order of rows does not matter.
    """
    if len(pairs) > SAMPLE:
        counts = pairs.group_by("query_id").agg(pairs=pl.len())
        drawn = sampled_queries(counts, SAMPLE, seed).to_frame()
        pairs = pairs.join(drawn, on="query_id", how="semi")
    pairs = pairs.sort("query_id", "comparison_id", "chosen", "rejected").head(SAMPLE)
    gap = (pl.col("chosen").str.len_chars().cast(pl.Int64) - pl.col("rejected").str.len_chars()).alias("gap")
    found, right = probe(pairs, seed)
    light = pairs.select(
        "query_id", gap, *(name for name in _RESPONDERS if name in pairs.columns)
    ).with_columns(probe=pl.Series(right if right is not None else [None] * len(pairs), dtype=pl.Float64))
    result = {
        "rows": len(pairs),
        "queries": pairs["query_id"].n_unique(),
        **light.select(**_LENGTH).row(0, named=True),
        "length_gap": _gap(light["gap"]) | {"median_rejected": pairs["rejected"].str.len_chars().median()},
        "responder_pairs": _by_responders(light),
        "probe": found,
        "prompts": near_twins(pairs["prompt"].unique()),
        "responses": near_twins(pl.concat([pairs["chosen"], pairs["rejected"]]).unique()) | _repeated(pairs),
        "identical_sides": int((pairs["chosen"] == pairs["rejected"]).sum()),
        "empty_sides": pairs.filter(
            pl.any_horizontal(pl.col("chosen", "rejected").str.strip_chars() == "")
        ).height,
        "pairs_per_query": _per_query(pairs["query_id"]),
    }
    return result | {"findings": _findings(result) if len(pairs) else []}


def plain(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with prompt, chosen and rejected as text instead of messages."""
    sides = ("prompt", "chosen", "rejected")
    return comparisons.with_columns(pl.col(s).list.last().struct.field("content").alias(s) for s in sides)


def sampled_queries(counts: pl.DataFrame, most: int = SAMPLE, seed: int = 0) -> pl.Series:
    """The query_ids of a seeded sample of whole queries, of at most `most` comparisons in all.

    `counts` has query_id and pairs, their number. The draw is apart from that of the splits. At least
    one query is in it, however many comparisons it has.
    """
    drawn = pl.Series("draw", [draw(query, seed, "sample") for query in counts["query_id"]], pl.Float64)
    order = counts.with_columns(drawn).sort("draw", "query_id")
    fits = order["pairs"].cum_sum() <= most
    return order["query_id"].head(max(1, int(fits.sum())))


def contamination(prompts: pl.DataFrame, benchmarks: dict[str, list[str]]) -> list[dict[str, Any]]:
    """How many of our queries (`query_id`, `prompt`) each benchmark shares, and what to worry about."""
    return [
        one | _verdict("contamination", one["overlapping_queries"] / max(1, one["queries"]))
        for one in contaminated(prompts, benchmarks)
    ]


_RESPONDERS = ("chosen_responder", "rejected_responder")
_LENGTH = {
    "share_chosen_longer": (pl.col("gap") > 0).mean(),
    "share_equal_length": (pl.col("gap") == 0).mean(),
    "always_longer": ((pl.col("gap").sign() + 1) / 2).mean(),
}
_QUANTILES = {f"q{s:02}": pl.col("gap").quantile(s / 100, "linear") for s in (5, 25, 50, 75, 95)}


def _gap(gap: pl.Series) -> dict[str, Any]:
    """Quantiles, mean, and a histogram one of whose edges is 0; what is beyond it is counted."""
    low, high = min(-1, gap.quantile(0.01) or 0), max(1, gap.quantile(0.99) or 0)
    width = int(-(-(high - low) // BINS))
    edges = np.arange(int(low // width), int(-(-high // width)) + 1) * width
    numbers = gap.to_numpy()
    return {
        **gap.to_frame().select(**_QUANTILES).row(0, named=True),
        "mean": gap.mean(),
        "histogram": {
            "start": int(edges[0]),
            "width": width,
            # The last edge of numpy's is in the bin before it; here each bin is open at its end.
            "counts": np.histogram(numbers[numbers < edges[-1]], edges)[0].tolist(),
            "below": int((numbers < edges[0]).sum()),
            "above": int((numbers >= edges[-1]).sum()),
        },
    }


def _by_responders(light: pl.DataFrame) -> list[dict[str, Any]]:
    if any(name not in light.columns for name in _RESPONDERS):
        return []
    gap = pl.struct(quantile.alias(name) for name, quantile in _QUANTILES.items())
    by_pair = light.group_by(_RESPONDERS).agg(
        rows=pl.len(), **_LENGTH, probe=pl.col("probe").mean(), length_gap=gap
    )
    return by_pair.sort(_RESPONDERS).rows(named=True)


def _repeated(pairs: pl.DataFrame) -> dict[str, Any]:
    """Responses that stand under several queries, white space and case aside, and the most frequent ones."""
    sides = [
        pairs.select("query_id", text=side, chosen=pl.lit(side == "chosen"))
        for side in ("chosen", "rejected")
    ]
    folded = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    uses = (
        pl.concat(sides)
        .group_by(folded=folded)
        .agg(queries=pl.col("query_id").n_unique(), chosen=pl.col("chosen").mean(), text=pl.col("text").min())
        .filter(pl.col("queries") > 1)
    )
    most = uses.sort("queries", "folded", descending=[True, False]).head(3)
    return {
        "under_several_queries": len(uses),
        "most_frequent": most.select(pl.col("text").str.head(80), "queries", "chosen").rows(named=True),
    }


def _per_query(query_ids: pl.Series) -> dict[str, Any]:
    each = query_ids.value_counts(name="pairs")["pairs"]
    numbers = each.clip(upper_bound=10).value_counts(name="queries").sort("pairs")
    named = {"10+" if pairs == 10 else str(pairs): queries for pairs, queries in numbers.iter_rows()}
    return {"mean": each.mean(), "queries": named}


def _findings(found: dict[str, Any]) -> list[dict[str, str]]:
    """The table of a card: measure, value as text, level and sentence."""
    gap, look = found["length_gap"], found["probe"]
    typical = gap["q50"] / max(1, gap["median_rejected"])
    rows = [
        ("always_longer", f"{found['always_longer']:.1%}", found["always_longer"]),
        ("length_gap", f"{gap['q50']:+,.0f}; {gap['q05']:+,.0f} to {gap['q95']:+,.0f}", typical),
    ]
    if look["accuracy"] is not None:
        by_length = max(found["always_longer"], 1 - found["always_longer"])
        value = f"{look['accuracy']:.1%} ({look['low']:.1%} to {look['high']:.1%})"
        exposed = max(look["low"], by_length)
        if look["low"] <= 0.5 and exposed < 0.6:
            exposed = 0.0 if look["high"] >= 0.5 else WORSE
        beyond = round(look["accuracy"] - by_length, 3)
        rows += [
            ("probe", value, exposed),
            (
                "probe_over_length",
                f"{100 * beyond:+.1f} points",
                look["low"] - by_length if beyond >= 0 else WORSE,
            ),
        ]
    for name in ("prompts", "responses"):
        share = found[name]["share_with_a_near_twin"]
        count = f"{found[name]['with_a_near_twin']:,} of {found[name]['texts']:,}"
        if share:
            count += f", largest group {found[name]['largest_cluster']:,}"
        rows.append((name, f"{share:.1%} ({count})", share))
    most = max((one["queries"] for one in found["responses"]["most_frequent"]), default=0)
    rows.append(("boilerplate", f"{most:,} of {found['queries']:,}", most / found["queries"]))
    for name in ("identical", "empty"):
        rows.append((name, f"{found[f'{name}_sides']:,}", found[f"{name}_sides"] / found["rows"]))
    rows.append(
        ("pairs_per_query", f"{found['pairs_per_query']['mean']:.2f}", found["pairs_per_query"]["mean"])
    )
    return [
        {"measure": RULES[name].measure, "value": text} | _verdict(name, number)
        for name, text, number in rows
    ]


def _verdict(name: str, number: float) -> dict[str, str]:
    level, sentence = next((level, words) for least, level, words in RULES[name].steps if number >= least)
    return {"level": level, "sentence": sentence}
