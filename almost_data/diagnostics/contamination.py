"""Prompts that a benchmark also has, by the runs of words that they share.

A query overlaps with a benchmark's prompt where it has at least half of its runs of 8 words, as in the OLMo 3
report (arXiv 2512.13961, 4.3). Runs that more than 100 of its prompts have do not count: they are a
template, which says nothing of one prompt. That also bounds the work: a run leads to 100 prompts at most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from .overlap import Numbers, Places, arrow, grams, only_words, words
from .rules import verdict

RUN, MIN_WORDS = 8, 4
"""Words of a run; a prompt of fewer than MIN_WORDS words is not compared."""
OVERLAP = 0.5
"""Share of the runs of a benchmark's prompt that a query must have."""
COMMON = 100
"""Prompts of a benchmark, alike ones counted once, that may have a run for it to count."""
CHUNK = 100_000
"""Prompts whose words are in memory at once."""
CANDIDATES = 10_000_000
"""Pairs of a query and a benchmark's prompt that are looked at in one go, as far as one run makes no more."""


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
    texts, owners, copies = prompts["text"], prompts["owner"].to_numpy(), prompts["copies"].to_numpy()
    vocabulary = words(texts)[0].unique(maintain_order=True)
    runs, texts_of_runs = _runs(texts, vocabulary)
    distinct, positions = np.unique(runs, return_inverse=True)
    texts_of_runs, positions = _without_common(texts_of_runs, positions, owners, len(distinct))
    index = _index(texts_of_runs, positions, len(texts), len(distinct))
    is_overlapping = np.zeros(len(texts), bool)
    query_ids: list[set[str]] = [set() for _ in names]
    for chunk in chunks:
        chunk_runs, rows = _runs(chunk["prompt"], vocabulary)
        shared = np.isin(chunk_runs, distinct)
        for rows_of_pairs, texts_of_pairs in index.overlaps(
            rows[shared], np.searchsorted(distinct, chunk_runs[shared])
        ):
            is_overlapping[texts_of_pairs] = True
            for number, ids in enumerate(query_ids):
                ids.update(chunk["query_id"][np.unique(rows_of_pairs[owners[texts_of_pairs] == number])])
    is_compared = index.sizes > 0
    return [
        (
            {
                "benchmark": name,
                "n": RUN,
                "prompts": len(benchmarks[name]),
                "compared": int(copies[is_compared & (owners == number)].sum()),
                "overlapping_prompts": int(copies[is_overlapping & (owners == number)].sum()),
            },
            ids,
        )
        for number, (name, ids) in enumerate(zip(names, query_ids, strict=True))
    ]


def _distinct_prompts(benchmarks: Mapping[str, list[str]], names: Sequence[str]) -> pl.DataFrame:
    """The prompts as words: `text`, `owner` (the number of its benchmark), and `copies` of it."""
    owners = np.repeat(np.arange(len(names)), [len(benchmarks[name]) for name in names])
    texts = pl.Series([text for name in names for text in benchmarks[name]], dtype=pl.String)
    prompts = pl.DataFrame({"text": only_words(texts), "owner": owners})
    return prompts.group_by("owner", "text", maintain_order=True).agg(copies=pl.len())


def _without_common(texts: Places, run_ids: Places, owners: Places, n_runs: int) -> tuple[Places, Places]:
    """Text and run of each occurrence, once for each text, without the runs that many of a benchmark have."""
    texts, run_ids = np.divmod(np.unique(texts * n_runs + run_ids), max(1, n_runs))
    _, of_benchmark, counts = np.unique(
        owners[texts] * n_runs + run_ids, return_inverse=True, return_counts=True
    )
    is_rare = counts[of_benchmark] <= COMMON
    return texts[is_rare], run_ids[is_rare]


@dataclass(frozen=True)
class _Index:
    """Which texts have which runs."""

    run_ids: Places
    """Of each text in turn, its distinct runs."""
    starts: Places
    """Where those of a text begin."""
    sizes: Places
    """How many a text has."""
    rare_ids: Places
    """Sorted runs by which texts are looked up: of each its rarest, of which an overlapping query has one."""
    rare_texts: Places
    """The text that each is of."""
    runs: int

    def overlaps(self, rows: Places, run_ids: Places) -> Iterator[tuple[Places, Places]]:
        """Rows and the texts that they overlap with, from the runs of each row; a pair may come twice."""
        keys = np.unique(rows * self.runs + run_ids)
        rows, run_ids = np.divmod(keys, max(1, self.runs))
        low, high = (np.searchsorted(self.rare_ids, run_ids, side) for side in ("left", "right"))
        slices = (np.cumsum(high - low) - 1) // CANDIDATES
        for number in np.unique(slices[high > low]):
            at = np.flatnonzero((slices == number) & (high > low))
            places, owner = ranges_of(low[at], (high - low)[at])
            pairs = np.unique(rows[at][owner] * len(self.sizes) + self.rare_texts[places])
            pair_rows, texts = np.divmod(pairs, len(self.sizes))
            places, owner = ranges_of(self.starts[texts], self.sizes[texts])
            is_shared = np.isin(pair_rows[owner] * self.runs + self.run_ids[places], keys)
            is_match = np.bincount(owner[is_shared], minlength=len(texts)) >= OVERLAP * self.sizes[texts]
            yield pair_rows[is_match], texts[is_match]


def _index(texts: Places, run_ids: Places, n_texts: int, n_runs: int) -> _Index:
    """The index of texts by their runs, from the text and the run of each occurrence, sorted, each once."""
    sizes = np.bincount(texts, minlength=n_texts)
    starts = np.cumsum(sizes) - sizes
    rarest_first = np.lexsort((np.bincount(run_ids, minlength=n_runs)[run_ids], texts))
    # Who has enough of n runs lacks fewer than the rest, so has one of any n - enough + 1.
    enough = np.ceil(OVERLAP * sizes).astype(np.int64)
    place = np.arange(len(texts)) - starts[texts]
    rare = rarest_first[place <= (sizes - enough)[texts]]
    rare = rare[np.argsort(run_ids[rare], kind="stable")]
    return _Index(run_ids, starts, sizes, run_ids[rare], texts[rare], n_runs)


def ranges_of(starts: Places, sizes: Places) -> tuple[Places, Places]:
    """The places of all ranges, and the number of the range that each is in."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(len(owner)) - (np.cumsum(sizes) - sizes - starts)[owner], owner


def _runs(texts: pl.Series, vocabulary: pl.Series) -> tuple[Numbers, Places]:
    """The runs of words of each text, and the text each is in; words not of the vocabulary match nothing."""
    import pyarrow.compute as pc

    all_words, counts = words(texts)
    ids = pc.fill_null(pc.index_in(arrow(all_words), arrow(vocabulary)), -1).to_numpy().astype(np.int64)
    ids = np.where(ids < 0, len(vocabulary) + np.arange(len(ids)), ids)
    pieces = [grams(ids, counts, n, counts == n) for n in range(MIN_WORDS, RUN)]
    pieces.append(grams(ids, counts, RUN, counts >= RUN))
    return np.concatenate([runs for runs, _ in pieces]), np.concatenate([rows for _, rows in pieces])
