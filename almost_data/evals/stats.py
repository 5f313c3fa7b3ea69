"""Shares and differences with 95% intervals; the same numbers give the same interval."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..diagnostics.probe import wilson

DRAWS = 10_000
BATCH = 4_000_000
"""Items drawn at a time: they are all in memory."""


def share(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of values from 0 to 1 and Wilson's interval; a tie is 0.5.

    >>> share([1.0, 1.0, 0.0, 1.0])
    (0.75, 0.3006, 0.9544)
    """
    value = float(np.mean(values))
    low, high = wilson(value, len(values))
    return value, round(max(0.0, low), 4), round(min(1.0, high), 4)


def mean(
    values: Sequence[float], seed: int = 0, groups: Sequence[Hashable] | None = None
) -> tuple[float, float, float]:
    """Mean and its bootstrap interval, by percentiles; `values` are one number for each item.

    Where items are not independent, `groups` says which belong together, and whole groups are drawn. Raises
    ValueError for no items.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise ValueError("no items to take a mean of")
    sums, sizes = _by_group(numbers, groups)
    random = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    step = max(1, BATCH // len(sums))
    for start in range(0, DRAWS, step):
        places = random.integers(0, len(sums), (min(step, DRAWS - start), len(sums)))
        means[start : start + step] = sums[places].sum(axis=1) / sizes[places].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(numbers.mean()), round(float(low), 4), round(float(high), 4)


def paired(gaps: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float, float]:
    """Mean of differences of shares item by item, and its interval: the bootstrap's, or a wider one.

    Where few items differ, nearly all draws are alike. So the interval is no narrower than what one more
    item, or group of mean size, for either side allows (Bonett and Price 2012).

    >>> paired([0.0] * 30)
    (0.0, -0.0866, 0.0866)
    """
    value, low, high = mean(gaps, groups=groups)
    sums, sizes = _by_group(np.asarray(gaps, dtype=np.float64), groups)
    usual = sizes.mean()
    sums, sizes = np.append(sums, [usual, -usual]), np.append(sizes, [usual, usual])
    middle = float(sums.sum() / sizes.sum())
    half = 1.96 * float(np.linalg.norm(sums - middle * sizes) / sizes.sum())
    return value, round(min(low, middle - half), 4), round(max(high, middle + half), 4)


def _by_group(
    values: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each group; without groups, each item is its own."""
    names = range(len(values)) if groups is None else groups
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    places = np.fromiter((numbers[name] for name in names), dtype=np.int64, count=len(values))
    return np.bincount(places, weights=values).astype(float), np.bincount(places).astype(float)
