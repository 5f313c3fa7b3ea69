"""Prompts that a benchmark also has, by the runs of words that they share."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from .overlap import Numbers, Places, arrow, grams, words
from .rules import verdict

RUN, MIN_WORDS = 8, 4
"""Words in a row that two prompts must share; a prompt of fewer than MIN_WORDS words is not compared."""
CHUNK = 100_000
"""Prompts whose words are in memory at once."""


def contamination(prompts: pl.DataFrame, benchmarks: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Per benchmark, how many of its prompts and of our queries (`query_id`, `prompt`) overlap, and which.

    Two prompts overlap where they share 8 words in a row, case and punctuation aside. A prompt of 4 to
    7 words counts as one run, which only a prompt of the same words shares; a shorter one is not
    compared. No text of a benchmark is returned: what is meant for evaluation must not enter a card.
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
    texts = pl.Series("text", [text for name in names for text in benchmarks[name]], pl.String)
    owners = np.repeat(np.arange(len(names)), [len(benchmarks[name]) for name in names])
    vocabulary, word_counts = words(texts)
    vocabulary = vocabulary.unique(maintain_order=True)
    runs, texts_of_runs = _runs(texts, vocabulary)
    distinct, positions = np.unique(runs, return_inverse=True)
    in_benchmark = np.zeros((len(names), len(distinct) + 1), bool)
    in_benchmark[owners[texts_of_runs], positions] = True
    in_queries = np.zeros(len(distinct) + 1, bool)
    query_ids: list[set[str]] = [set() for _ in names]
    for chunk in chunks:
        chunk_runs, rows = _runs(chunk["prompt"], vocabulary)
        shared = np.isin(chunk_runs, distinct)
        matches, rows = np.searchsorted(distinct, chunk_runs[shared]), rows[shared]
        in_queries[matches] = True
        for number, ids in enumerate(query_ids):
            ids.update(chunk["query_id"][np.unique(rows[in_benchmark[number, matches]])])
    overlapping = owners[np.unique(texts_of_runs[in_queries[positions]])]
    return [
        (
            {
                "benchmark": name,
                "n": RUN,
                "prompts": len(benchmarks[name]),
                "compared": int((word_counts[owners == number] >= MIN_WORDS).sum()),
                "overlapping_prompts": int((overlapping == number).sum()),
            },
            ids,
        )
        for number, (name, ids) in enumerate(zip(names, query_ids, strict=True))
    ]


def _runs(texts: pl.Series, vocabulary: pl.Series) -> tuple[Numbers, Places]:
    """The runs of words of each text, and the text each is in; words not of the vocabulary match nothing."""
    import pyarrow.compute as pc

    all_words, counts = words(texts)
    ids = pc.fill_null(pc.index_in(arrow(all_words), arrow(vocabulary)), -1).to_numpy().astype(np.int64)
    ids = np.where(ids < 0, len(vocabulary) + np.arange(len(ids)), ids)
    pieces = [grams(ids, counts, n, counts == n) for n in range(MIN_WORDS, RUN)]
    pieces.append(grams(ids, counts, RUN, counts >= RUN))
    return np.concatenate([runs for runs, _ in pieces]), np.concatenate([rows for _, rows in pieces])
