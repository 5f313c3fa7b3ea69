"""Ids that were read, also of more rows than fit in memory."""

import hashlib
from array import array
from bisect import bisect_left

RECENT = 250_000
"""Ids that are kept in a set before they are sorted among the earlier ones."""


class IdSet:
    """A set of texts, by 64 bits of their hash: 8 bytes each.

    >>> ids = IdSet()
    >>> [ids.add(text) for text in ("a", "b", "a")]
    [True, True, False]
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted = memoryview(array("Q"))

    def add(self, text: str) -> bool:
        """Add a text. Returns whether it is new."""
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        place = bisect_left(self._sorted, key)
        if key in self._recent or (place < len(self._sorted) and self._sorted[place] == key):
            return False
        self._recent.add(key)
        if len(self._recent) >= RECENT:
            self._sort()
        return True

    def _sort(self) -> None:
        import numpy as np

        recent = np.fromiter(self._recent, np.uint64, len(self._recent))
        keys = np.concatenate([np.asarray(self._sorted), recent])
        keys.sort()
        self._sorted = keys.data
        self._recent.clear()
