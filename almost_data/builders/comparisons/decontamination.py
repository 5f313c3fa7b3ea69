"""Queries that a benchmark also has, dropped before anything is compared."""

from collections.abc import Mapping

import polars as pl

from ...datasets.digest import RANGE_ROWS, ranges
from ...datasets.filters import Filter
from ...datasets.tables import all_turns
from ...diagnostics.contamination import COMMON, OVERLAP, RUN, search

CONTAMINATED = "contaminated"


def contaminated(responses: pl.LazyFrame, benchmarks: Mapping[str, list[str]]) -> Filter:
    """Drops the responses to queries that overlap with a prompt of a benchmark.

    `responses` have `query_id` and `prompt`; they are read once, a range of queries at a time.
    """
    chunks = (
        part.select("query_id", "prompt").unique("query_id").with_columns(all_turns()).collect()
        for part in ranges(responses, RANGE_ROWS)
    )
    ids = set[str]().union(*(query_ids for _, query_ids in search(chunks, benchmarks)))
    return Filter(
        CONTAMINATED,
        "response",
        f"The query has {OVERLAP:.0%} or more of the runs of {RUN} words of a benchmark's prompt; of a short "
        f"prompt, all words. Runs that more than {COMMON} of its prompts share do not count.",
        "OLMo 3 report, 4.3 (8-grams, overlap 0.5)",
        pl.col("query_id").is_in(pl.Series(sorted(ids), dtype=pl.String).implode()),
        {"benchmarks": sorted(benchmarks), "overlap": OVERLAP, "common": COMMON},
    )
