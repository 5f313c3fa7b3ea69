"""Shares and differences with 95% intervals; the same numbers give the same interval."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..diagnostics.probe import wilson

DRAWS = 10_000
AT_ONCE = 4_000_000
"""Items drawn at a time: they are all in memory."""


def share(right: Sequence[float]) -> tuple[float, float, float]:
    """Mean of values from 0 to 1 and Wilson's interval; a tie is 0.5.

    >>> share([1.0, 1.0, 0.0, 1.0])
    (0.75, 0.3006, 0.9544)
    """
    value = float(np.mean(right))
    low, high = wilson(value, len(right))
    return value, round(max(0.0, low), 4), round(min(1.0, high), 4)


def mean(
    values: Sequence[float], seed: int = 0, groups: Sequence[Hashable] | None = None
) -> tuple[float, float, float]:
    """Mean and its bootstrap interval, by percentiles; `values` are one number an independent item.

    Where items are not independent, `groups` says which belong together, and whole groups are drawn. Of
    paired differences, it is the interval of the difference. Raises ValueError where there is none.
    """
    every = np.asarray(values, dtype=np.float64)
    if not len(every):
        raise ValueError("no item to take a mean of")
    sums, sizes = _by_group(every, groups)
    random = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    step = max(1, AT_ONCE // len(sums))
    for start in range(0, DRAWS, step):
        drawn = random.integers(0, len(sums), (min(step, DRAWS - start), len(sums)))
        means[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(every.mean()), round(float(low), 4), round(float(high), 4)


def paired(gaps: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float, float]:
    """Mean of differences of shares item by item, and its interval: the bootstrap's, or a wider one.

    Where few items differ, nearly every draw is the same. So it is no narrower than what one more item, or
    group of the usual size, for either side leaves (Bonett and Price 2012).

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
    every: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each group; each item is one where there are none."""
    names = range(len(every)) if groups is None else groups
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    at = np.fromiter((place[name] for name in names), dtype=np.int64, count=len(every))
    return np.bincount(at, weights=every).astype(float), np.bincount(at).astype(float)
