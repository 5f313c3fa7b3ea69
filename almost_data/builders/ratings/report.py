"""What ratings say of the ladder and of length, as numbers and as a figure."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ...cards.figures import boxes
from ...datasets.builder import Figures
from ...datasets.manifest import Manifest


def report(ratings: pl.DataFrame) -> dict[str, Any]:
    """Mean rating by responder, and over each two responders of the ladder how often the better is rated
    higher; of all pairs of responses to a query, how often the longer one is."""
    length = pl.col("response").str.len_chars().cast(pl.Int64)
    rows = ratings.select("query_id", "responder", "rank", "rating", length=length)
    responders = rows.group_by("rank", "responder").agg(
        responses=pl.len(), mean_rating=pl.col("rating").mean()
    )
    ranked = rows.filter(pl.col("rank").is_not_null())
    pairs = ranked.join(ranked, on="query_id", suffix="_below").filter(pl.col("rank") < pl.col("rank_below"))
    gap, longer = pl.col("rating") - pl.col("rating_below"), pl.col("length") - pl.col("length_below")
    counts = [pl.len().alias("pairs"), (gap > 0).sum().alias("agree"), (gap == 0).sum().alias("tied")]
    ranks = ("rank", "rank_below", "responder", "responder_below")
    by_pair = pairs.group_by(ranks).agg(counts).sort(ranks)
    decided = pairs.filter((gap != 0) & (longer != 0))
    is_longer = decided.select(((gap > 0) == (longer > 0)).mean()).item() if len(decided) else None
    sums = {name: int(by_pair[name].sum()) for name in ("pairs", "agree", "tied")}
    untied = sums["pairs"] - sums["tied"]
    return {
        "responders": responders.sort("rank", "responder", nulls_last=True).drop("rank").to_dicts(),
        "ladder_pairs": [
            {
                "pair": f"{row['responder']} > {row['responder_below']}",
                **{name: row[name] for name in sums},
            }
            for row in by_pair.rows(named=True)
        ],
        "ladder_agreement_share": sums["agree"] / untied if untied else None,
        "tied_share": sums["tied"] / sums["pairs"] if sums["pairs"] else None,
        "longer_rated_higher_share": is_longer,
    }


def figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    """The ratings of each responder, the best of the ladder first."""
    ratings = tables["default"]
    names = [row["responder"] for row in manifest.diagnostics["responders"]]
    by_name = {name: ratings.filter(pl.col("responder") == name)["rating"] for name in names}
    if by_name:
        figure, _ = boxes(by_name, "Ratings by responder, best of the ladder first", "rating")
        yield "ratings", figure
