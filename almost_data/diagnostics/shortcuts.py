"""How exposed a set of comparisons is to shortcuts: numbers, and a sentence for each (`rules`).

A reward model learns whatever separates chosen from rejected. Where length, punctuation or a stock phrase
does, it may learn nothing else; where texts repeat, the set teaches less than its row count suggests.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..datasets.tables import all_turns, last_turn
from .overlap import folded, near_twins
from .probe import draw, interval, probe
from .rules import findings

SAMPLE = 50_000
"""Most comparisons whose texts are read."""
BINS = 40
"""Most bins of a histogram."""

_RESPONDERS = ("chosen_responder", "rejected_responder")
_LENGTH = {
    "share_chosen_longer": (pl.col("gap") > 0).mean(),
    "share_equal_length": (pl.col("gap") == 0).mean(),
    "always_longer": ((pl.col("gap").sign() + 1) / 2).mean(),
}
HAS_EMPTY_SIDE = pl.any_horizontal(pl.col("chosen", "rejected").str.strip_chars() == "")
_QUANTILES = {f"q{s:02}": pl.col("gap").quantile(s / 100, "linear") for s in (5, 25, 50, 75, 95)}


def diagnose(pairs: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Measure what tells chosen from rejected, and what repeats: numbers, and `findings` about them.

    `pairs` has comparison_id, query_id, prompt, chosen and rejected as text, and optionally chosen_responder
    and rejected_responder. Over SAMPLE rows, a seeded sample of the queries is read. The result is JSON
    data; the order of rows does not matter.
    """
    pairs = sampled_rows(pairs, SAMPLE, seed)
    pairs = pairs.sort("query_id", "comparison_id", "chosen", "rejected").head(SAMPLE)
    gap = (pl.col("chosen").str.len_chars().cast(pl.Int64) - pl.col("rejected").str.len_chars()).alias("gap")
    replies = pl.concat([pairs["chosen"], pairs["rejected"]]).unique()
    with ThreadPoolExecutor(1) as pool:
        twins = pool.submit(near_twins, replies)
        surface, hits = probe(pairs, seed)
    hit_column = pl.Series(hits if hits is not None else [None] * len(pairs), dtype=pl.Float64)
    responders = [name for name in _RESPONDERS if name in pairs.columns]
    measures = pairs.select("query_id", gap, *responders).with_columns(probe=hit_column)
    is_longer = (measures["gap"].sign().to_numpy() + 1) / 2  # a half where both are of one length
    result = {
        "rows": len(pairs),
        "queries": pairs["query_id"].n_unique(),
        **measures.select(**_LENGTH).row(0, named=True),
        "always_longer_interval": list(interval(is_longer, measures["query_id"])) if len(pairs) else None,
        "length_gap": _gap(measures["gap"]) | {"median_rejected": pairs["rejected"].str.len_chars().median()},
        "responder_pairs": _by_responders(measures),
        "probe": surface,
        "prompts": near_twins(pairs["prompt"].unique()),
        "responses": twins.result() | _repeated(pairs),
        "equal_sides": int((pairs["chosen"] == pairs["rejected"]).sum()),
        "empty_sides": pairs.filter(HAS_EMPTY_SIDE).height,
        "pairs_per_query": _per_query(pairs["query_id"]),
    }
    return result | {"findings": findings(result) if len(pairs) else []}


def plain(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with prompt (all its turns), chosen and rejected as text instead of messages."""
    return comparisons.with_columns(all_turns("prompt"), last_turn("chosen"), last_turn("rejected"))


def sampled_rows(pairs: pl.DataFrame, max_pairs: int, seed: int = 0) -> pl.DataFrame:
    """The rows of a seeded sample of whole queries, of at most `max_pairs` rows unless one query has more."""
    if len(pairs) <= max_pairs:
        return pairs
    queries = sampled_queries(pairs.group_by("query_id").agg(pairs=pl.len()), max_pairs, seed)
    return pairs.filter(pl.col("query_id").is_in(queries.implode()))


def sampled_queries(counts: pl.DataFrame, max_pairs: int = SAMPLE, seed: int = 0) -> pl.Series:
    """The query_ids of a seeded sample of whole queries, of at most `max_pairs` comparisons in all.

    `counts` has query_id and pairs, their number. The sample is independent of the splits. It has at least
    one query, however many comparisons that has.
    """
    return fitting_queries(draw_order(counts, seed), max_pairs)


def draw_order(counts: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """The rows of `counts` in the order in which a seeded sample takes their queries."""
    numbers = pl.Series("draw", [draw(query, seed, "sample") for query in counts["query_id"]], pl.Float64)
    return counts.with_columns(numbers).sort("draw", "query_id").drop("draw")


def fitting_queries(order: pl.DataFrame, max_pairs: int) -> pl.Series:
    """The first query_ids, of at most `max_pairs` comparisons in all, but one query at least."""
    fits = order["pairs"].cum_sum() <= max_pairs
    return order["query_id"].head(max(1, int(fits.sum())))


def _gap(gap: pl.Series) -> dict[str, Any]:
    """Quantiles, mean, and a histogram with an edge at 0; values outside of it are counted."""
    low, high = min(-1, gap.quantile(0.01) or 0), max(1, gap.quantile(0.99) or 0)
    numbers = gap.to_numpy()
    width = bin_width(numbers[(numbers >= low) & (numbers <= high)])
    edges = np.arange(int(low // width), int(-(-high // width)) + 1) * width
    return {
        **gap.to_frame().select(**_QUANTILES).row(0, named=True),
        "mean": gap.mean(),
        "histogram": {
            "start": int(edges[0]),
            "width": width,
            # numpy's last bin includes its right edge; here every bin excludes it.
            "counts": np.histogram(numbers[numbers < edges[-1]], edges)[0].tolist(),
            "below": int((numbers < edges[0]).sum()),
            "above": int((numbers >= edges[-1]).sum()),
        },
    }


def bin_width(values: NDArray[Any]) -> int:
    """Width of the bins of a histogram of whole numbers: numpy's rule `auto`, at most BINS bins.

    That is Freedman and Diaconis's where there are many values, Sturges's where there are few.
    """
    if not len(values):
        return 1
    edges = np.histogram_bin_edges(values, "auto")
    return max(1, round(float(edges[1] - edges[0])), -(-int(values.max() - values.min()) // BINS))


def _by_responders(measures: pl.DataFrame) -> list[dict[str, Any]]:
    if any(name not in measures.columns for name in _RESPONDERS):
        return []
    gap = pl.struct(quantile.alias(name) for name, quantile in _QUANTILES.items())
    by_pair = measures.group_by(_RESPONDERS).agg(
        rows=pl.len(), **_LENGTH, probe=pl.col("probe").mean(), length_gap=gap
    )
    return by_pair.sort(_RESPONDERS).rows(named=True)


def _repeated(pairs: pl.DataFrame) -> dict[str, Any]:
    """Responses to several queries, white space and case aside, and the most frequent of them."""
    sides = [
        pairs.select("query_id", text=side, chosen=pl.lit(side == "chosen"))
        for side in ("chosen", "rejected")
    ]
    uses = (
        pl.concat(sides)
        .group_by(folded=folded(pl.col("text")))
        .agg(queries=pl.col("query_id").n_unique(), chosen=pl.col("chosen").mean(), text=pl.col("text").min())
        .filter(pl.col("queries") > 1)
    )
    top = uses.sort("queries", "folded", descending=[True, False]).head(3)
    return {
        "under_several_queries": len(uses),
        "most_frequent": top.select(pl.col("text").str.head(80), "queries", "chosen").rows(named=True),
    }


def _per_query(query_ids: pl.Series) -> dict[str, Any]:
    pairs = query_ids.value_counts(name="pairs")["pairs"]
    numbers = pairs.clip(upper_bound=10).value_counts(name="queries").sort("pairs")
    labels = {"10+" if pairs == 10 else str(pairs): queries for pairs, queries in numbers.iter_rows()}
    return {"mean": pairs.mean(), "queries": labels}
