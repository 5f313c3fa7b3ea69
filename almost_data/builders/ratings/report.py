"""What ratings say of the ladder and of length, as numbers and as a figure."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from ...cards.figures import boxes
from ...datasets.builder import Figures
from ...datasets.manifest import Manifest

_RANKS = ("rank", "rank_below", "responder", "responder_below")


def report(parts: Iterable[pl.DataFrame]) -> dict[str, Any]:
    """Mean rating by responder, and over each two responders of the ladder how often the better is rated
    higher; of all pairs of responses to a query, how often the longer one is.

    Rows come in parts that hold all responses to a query: `query_id`, `responder`, `rank`, `rating` and
    `length`.
    """
    counts = [_counts(part) for part in parts]
    responders, by_pair, longer = (
        pl.concat(part[place] for part in counts).group_by(keys).agg(pl.all().sum()).sort(keys)
        for place, keys in enumerate((("rank", "responder"), _RANKS, ("is_longer",)))
    )
    mean = (pl.col("ratings") / pl.col("responses")).alias("mean_rating")
    sums = {name: int(by_pair[name].sum()) for name in ("pairs", "agree", "tied")}
    untied, decided = sums["pairs"] - sums["tied"], int(longer["pairs"].sum())
    return {
        "responders": responders.select("responder", "responses", mean).to_dicts(),
        "ladder_pairs": [
            {"pair": f"{row['responder']} > {row['responder_below']}", **{name: row[name] for name in sums}}
            for row in by_pair.rows(named=True)
        ],
        "ladder_agreement_share": sums["agree"] / untied if untied else None,
        "tied_share": sums["tied"] / sums["pairs"] if sums["pairs"] else None,
        "longer_rated_higher_share": longer.filter("is_longer")["pairs"].sum() / decided if decided else None,
    }


def _counts(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Of a part: responses and the sum of their ratings by responder; pairs by responders; pairs that are
    decided by whether the longer response is rated higher."""
    rows = rows.with_columns(pl.col("length").cast(pl.Int64))
    responders = rows.group_by("rank", "responder").agg(responses=pl.len(), ratings=pl.col("rating").sum())
    pairs = rows.join(rows, on="query_id", suffix="_below").filter(pl.col("rank") < pl.col("rank_below"))
    gap, longer = pl.col("rating") - pl.col("rating_below"), pl.col("length") - pl.col("length_below")
    by_pair = pairs.group_by(_RANKS).agg(pairs=pl.len(), agree=(gap > 0).sum(), tied=(gap == 0).sum())
    decided = pairs.filter((gap != 0) & (longer != 0))
    by_length = decided.group_by(((gap > 0) == (longer > 0)).alias("is_longer")).agg(pairs=pl.len())
    return responders, by_pair, by_length


def figures(manifest: Manifest, tables: Mapping[str, pl.DataFrame]) -> Figures:
    """The ratings of each responder, the best of the ladder first."""
    ratings = tables["default"]
    names = [row["responder"] for row in manifest.diagnostics["responders"]]
    by_name = {name: ratings.filter(pl.col("responder") == name)["rating"] for name in names}
    if by_name:
        figure, _ = boxes(by_name, "Ratings by responder, best of the ladder first", "rating")
        yield "ratings", figure
