"""Shares and differences with 95% intervals."""

from collections.abc import Hashable, Sequence

import numpy as np
import polars as pl

from ..diagnostics.probe import interval, wilson


def share(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float, float]:
    """Mean of values from 0 to 1 and Wilson's interval; a tie is 0.5.

    Where items are not independent, `groups` says which belong together, and the interval is wider.

    >>> share([1.0, 1.0, 0.0, 1.0])
    (0.75, 0.3006, 0.9544)
    """
    value = float(np.mean(values))
    if groups is not None:
        return value, *interval(np.array(values), pl.Series(groups))
    low, high = wilson(value, len(values))
    return value, round(max(0.0, low), 4), round(min(1.0, high), 4)


def paired(gaps: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float, float]:
    """Mean of differences of shares item by item, and its interval (Bonett and Price 2012).

    The interval is that of the mean with one more item for either side, so that few items do not look
    certain. Where items are not independent, `groups` says which belong together: the interval is then over
    groups. A difference of shares lies between -1 and 1. Raises ValueError for no items.

    >>> paired([0.0] * 30)
    (0.0, -0.0866, 0.0866)
    """
    if not len(gaps):
        raise ValueError("no items to take a mean of")
    names = range(len(gaps)) if groups is None else groups
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group_of_item = [numbers[name] for name in names]
    sums, sizes = np.bincount(group_of_item, weights=gaps), np.bincount(group_of_item)
    mean_size = sizes.mean()  # the group that is added for either side differs in all of its items
    sums, sizes = np.append(sums, [mean_size, -mean_size]), np.append(sizes, [mean_size, mean_size])
    center = float(sums.sum() / sizes.sum())
    margin = 1.96 * float(np.linalg.norm(sums - center * sizes) / sizes.sum())
    return float(np.mean(gaps)), round(max(-1.0, center - margin), 4), round(min(1.0, center + margin), 4)
