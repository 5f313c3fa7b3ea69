"""Near twins of a large set are those of brute force, whatever the chunks."""

import random

import numpy as np
import polars as pl
import pytest

from almost_data.diagnostics import twins
from almost_data.diagnostics.overlap import near_twins
from almost_data.diagnostics.twins import twin_clusters

WORDS = [f"word{number}" for number in range(500)]


def texts(count: int) -> pl.Series:
    """Texts of 5 to 60 words; a third as many copies with a word or two changed; texts without words."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(5, 60))) for _ in range(count)]
    for text in rng.sample(texts, count // 3):
        words = text.split()
        for _ in range(rng.randint(0, 2)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        texts.append(" ".join(words).upper())
    return pl.Series([*texts, "?!", "?!", "...", "", "two words", "Two  words"])


def groups(numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> set[tuple[int, ...]]:
    return {tuple(np.flatnonzero(numbers == number)) for number in np.unique(numbers)}


def test_twins_are_those_of_the_exact_search(monkeypatch: pytest.MonkeyPatch) -> None:
    series = texts(600)
    whole = twin_clusters(lambda: [series])
    exact = near_twins(series.unique())
    sizes = np.bincount(whole)
    repeated = len(series) - series.n_unique()
    assert (sizes[sizes > 0] - 1).sum() - repeated == pytest.approx(exact["near_copies"], abs=2)
    assert exact["near_copies"] > 50
    assert (
        whole[600 + 200] == whole[600 + 201] != whole[600 + 202]
    )  # texts without words, by their characters
    assert whole[-2] == whole[-1]
    for size in (7, 100):
        monkeypatch.setattr(twins, "CHUNK", 50 * size)
        monkeypatch.setattr(twins, "BATCH", 1_000 * size)
        chunks = [series[start : start + size] for start in range(0, len(series), size)]
        assert groups(twin_clusters(lambda chunks=chunks: chunks)) == groups(whole)  # type: ignore[misc]
    order = np.random.default_rng(0).permutation(len(series))
    shuffled = twin_clusters(lambda: [series.gather(order)])
    assert groups(shuffled[np.argsort(order)]) == groups(whole)


def test_more_that_are_alike_than_fit_a_batch_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    base = " ".join(WORDS[:60])
    series = pl.Series([f"{base} {number}" for number in range(300)])
    assert len(groups(twin_clusters(lambda: [series]))) == 1
    monkeypatch.setattr(twins, "BATCH", 30 * len(base))
    assert 1 < len(groups(twin_clusters(lambda: [series]))) < 15
    assert len(twin_clusters(lambda: [])) == len(twin_clusters(lambda: [pl.Series([], dtype=pl.String)])) == 0
