"""Prompts that a benchmark also has, by the runs of words that they share.

A query overlaps with a benchmark's prompt where it has at least half of its runs of 8 words, as in the OLMo 3
report (arXiv 2512.13961, 4.3). Runs that more than 100 of its prompts have do not count: they are a
template, which says nothing of one prompt. That also bounds the work: a run leads to 100 prompts at most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from .overlap import arrow, grams, only_words, words
from .rules import verdict

RUN, MIN_WORDS = 8, 4
"""Words of a run; a prompt of fewer than MIN_WORDS words is not compared."""
OVERLAP = 0.5
"""Share of the runs of a benchmark's prompt that a query must have."""
COMMON = 100
"""Prompts of a benchmark, alike ones counted once, that may have a run for it to count."""
CHUNK = 100_000
"""Prompts whose words are in memory at once."""
CANDIDATES = 200_000
"""Pairs of a query and a benchmark's prompt that are looked at in one go, as far as one query has no more."""


def contamination(prompts: pl.DataFrame, benchmarks: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Per benchmark, how many of its prompts and of our queries (`query_id`, `prompt`) overlap, and which.

    They overlap where the query has at least half of the runs of 8 words of the benchmark's prompt, case and
    punctuation aside. A prompt of 4 to 7 words counts as one run, which only a query of the same words has; a
    shorter one is not compared, nor one of common runs alone. No text of a benchmark is returned: what
    is meant for evaluation must not enter a card.
    """
    queries = prompts["query_id"].n_unique()
    chunks = (prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK))
    return [
        {
            **counts,
            "queries": queries,
            "overlapping_queries": len(ids),
            "query_ids": sorted(ids)[:5],
            **verdict("contamination", len(ids) / max(1, queries)),
        }
        for counts, ids in search(chunks, benchmarks)
    ]


def search(
    chunks: Iterable[pl.DataFrame], benchmarks: Mapping[str, list[str]]
) -> list[tuple[dict[str, Any], set[str]]]:
    """Per benchmark, what of it was compared and overlaps, and the ids of all our queries that overlap.

    A chunk has `query_id` and `prompt`; a query may be in several.
    """
    names = sorted(benchmarks)
    prompts = _distinct_prompts(benchmarks, names)
    vocabulary = words(prompts["words"])[0].unique(maintain_order=True)
    index = _index(prompts, vocabulary)
    overlapping = set[int]()
    query_ids: list[set[str]] = [set() for _ in names]
    for chunk in chunks:
        for pairs in _overlaps(_runs(chunk["prompt"], vocabulary), index):
            overlapping.update(pairs["text"])
            for owner, rows in pairs.group_by("owner").agg("row").iter_rows():
                query_ids[owner].update(chunk["query_id"][rows])
    compared = prompts.join(index, on="text", how="semi")
    matched = prompts.filter(pl.col("text").is_in(list(overlapping)))
    results = []
    for number, name in enumerate(names):
        counts: dict[str, Any] = {"benchmark": name, "n": RUN, "prompts": len(benchmarks[name])}
        for key, rows in (("compared", compared), ("overlapping_prompts", matched)):
            counts[key] = rows.filter(owner=number)["copies"].sum()
        results.append((counts, query_ids[number]))
    return results


def _distinct_prompts(benchmarks: Mapping[str, list[str]], names: Sequence[str]) -> pl.DataFrame:
    """Each prompt once: its number (`text`), `words`, number of `copies`, and its benchmark (`owner`)."""
    pairs = [(owner, text) for owner, name in enumerate(names) for text in benchmarks[name]]
    prompts = pl.DataFrame(pairs, {"owner": pl.Int64, "words": pl.String}, orient="row")
    prompts = prompts.with_columns(only_words(pl.col("words")))
    counts = prompts.group_by("owner", "words", maintain_order=True).agg(copies=pl.len())
    return counts.with_columns(text=pl.int_range(pl.len()))


def _index(prompts: pl.DataFrame, vocabulary: pl.Series) -> pl.DataFrame:
    """The runs of each benchmark's prompt, without those that many prompts of it have.

    `size` is how many a prompt has. `is_rare` marks its rarest ones, of which an overlapping query has one:
    who has enough of n runs lacks fewer than the rest, so has one of any n - enough + 1.
    """
    runs = _runs(prompts["words"], vocabulary).rename({"row": "text"}).unique()
    runs = runs.join(prompts.select("text", "owner"), on="text")
    runs = runs.filter(pl.len().over("owner", "run") <= COMMON)
    rarest_first = runs.with_columns(uses=pl.len().over("run")).sort("text", "uses", "run")
    size = pl.len().over("text")
    place = pl.int_range(pl.len()).over("text")
    return rarest_first.with_columns(size=size, is_rare=place <= size - (OVERLAP * size).ceil())


def _overlaps(runs: pl.DataFrame, index: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The pairs of a `row` and a `text` that overlap, with the `owner` of the text; some rows at a time."""
    rare, texts = index.filter("is_rare").select("run", "text"), index.select("text", "run")
    sizes = index.select("text", "owner", "size").unique()
    shared = runs.join(index, on="run", how="semi").unique().sort("row")
    shared = shared.join(rare.group_by("run").len(), on="run", how="left", maintain_order="left")
    shared = shared.with_columns(part=pl.col("len").fill_null(0).cast(pl.Int64).cum_sum() // CANDIDATES)
    for rows in shared.with_columns(pl.col("part").first().over("row")).partition_by("part"):
        pairs = rows.join(rare, on="run").select("row", "text").unique()
        matches = pairs.join(texts, on="text").join(rows, on=["row", "run"], how="semi")
        counts = matches.group_by("row", "text").len().join(sizes, on="text")
        yield counts.filter(pl.col("len") >= OVERLAP * pl.col("size"))


def _runs(texts: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    """The runs of words of each text: `run`, and the `row` of the text.

    Words that are not of the vocabulary match nothing.
    """
    import pyarrow.compute as pc

    all_words, counts = words(texts)
    ids = pc.fill_null(pc.index_in(arrow(all_words), arrow(vocabulary)), -1).to_numpy().astype(np.int64)
    ids = np.where(ids < 0, len(vocabulary) + np.arange(len(ids)), ids)
    pieces = [grams(ids, counts, n, counts == n) for n in range(MIN_WORDS, RUN)]
    pieces.append(grams(ids, counts, RUN, counts >= RUN))
    runs, rows = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return pl.DataFrame({"run": runs, "row": rows})
