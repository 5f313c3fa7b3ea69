"""Shares and differences with 95% intervals; the same numbers give the same interval."""

from collections.abc import Sequence

import numpy as np

from ..probe import wilson

DRAWS = 10_000


def share(right: Sequence[float]) -> tuple[float, float, float]:
    """Mean of values from 0 to 1 and Wilson's interval; a tie is 0.5.

    >>> share([1.0, 1.0, 0.0, 1.0])
    (0.75, 0.3006, 0.9544)
    """
    value = float(np.mean(right))
    low, high = wilson(value, len(right))
    return value, round(max(0.0, low), 4), round(min(1.0, high), 4)


def mean(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its bootstrap interval, by percentiles; `values` are one number an independent item.

    Of paired differences, it is the interval of the difference.
    """
    every = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(every), (DRAWS, len(every)))
    low, high = np.quantile(every[drawn].mean(axis=1), [0.025, 0.975])
    return float(every.mean()), round(float(low), 4), round(float(high), 4)
