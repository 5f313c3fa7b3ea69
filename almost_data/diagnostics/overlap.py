"""Texts that say the same: the near twins of a set.

Texts are compared by their words (runs of letters and digits, lower case) in windows: two texts are
near twins where at least 80% of all their windows of 3 words are in both (Jaccard). Candidates come from
the prefix filter of Chaudhuri et al. (2006), which misses none: of two such texts, sorted by rarity, one of
the rarest 20% of the windows is shared. Work is bounded, so a hostile set gives a lower bound, not a halt.
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]

NEAR = 0.8
"""Jaccard similarity from which two texts are near twins."""
SHINGLE, SHORT = 3, 5
"""Words in a window; a text of fewer than SHORT words is compared by its single words."""
CHARS = 60_000_000
"""Characters compared at most: in a larger set the longest texts are cut, all at the same length."""
WINDOW = 16
"""Of the texts that share a rare window, each is compared with this many next to it in length."""
BUDGET = 100_000_000
"""Windows compared at most when candidates are verified."""
CHUNK = 100_000
"""Candidates verified at once."""
EPSILON = 1e-9


def near_twins(texts: pl.Series) -> dict[str, Any]:
    """How many of the distinct texts have a twin: the same but for case and white space, or a near twin."""
    folded = texts.unique().str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    forms = folded.value_counts(name="texts").sort(folded.name)
    each = forms["texts"].to_numpy()
    sizes = np.bincount(_clusters(forms[folded.name]), weights=each).astype(int)
    twins = int(sizes[sizes > 1].sum())
    return {
        "texts": len(folded),
        "same_when_folded": int(each[each > 1].sum()),
        "with_a_near_twin": twins,
        "share_with_a_near_twin": twins / max(1, len(folded)),
        "largest_cluster": int(sizes.max(initial=0)),
    }


def words(texts: pl.Series) -> tuple[pl.Series, Places]:
    """All words of all texts, and how many each text has."""
    plain = texts.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars(" ")
    some = plain != ""
    split = plain.filter(some).str.split(" ")
    lengths = np.zeros(len(texts), np.int64)
    lengths[some.to_numpy()] = split.list.len().to_numpy()
    return split.explode(), lengths


def arrow(texts: pl.Series) -> Any:
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest())


def _mix(numbers: Numbers) -> Numbers:
    """Numbers scattered over 64 bits (the finaliser of SplitMix64), the same on every machine."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def grams(ids: Places, counts: Places, n: int, texts: NDArray[np.bool_]) -> tuple[Numbers, Places]:
    """A 64-bit number for each run of n words in the chosen texts, and the text each is in."""
    rows = np.repeat(np.arange(len(counts)), counts)
    left = np.repeat(np.cumsum(counts), counts) - np.arange(len(ids))
    starts = np.flatnonzero((left >= n) & texts[rows])
    gram = np.full(len(starts), n, np.uint64)
    scattered = _mix(ids.astype(np.uint64) + np.uint64(1))
    for step in range(n):
        gram = gram * np.uint64(0x9E3779B97F4A7C15) + scattered[starts + step]
    return _mix(gram), rows[starts]


def _clusters(forms: pl.Series) -> Places:
    """A number per text, the same for texts that are near twins or linked by a chain of such."""
    from scipy.sparse import csr_matrix

    label = np.arange(len(forms))
    every, counts = words(forms.str.head(_cut(forms)))
    ids = arrow(every).dictionary_encode().indices.to_numpy().astype(np.int64)
    pieces = [grams(ids, counts, SHINGLE, counts >= SHORT), grams(ids, counts, 1, counts < SHORT)]
    windows, rows = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    # A text with more than 20% of windows that no other has can have no near twin: most texts go here.
    # Counted by 24 of the 64 bits, which never takes a shared window for a lone one.
    slots = (windows >> np.uint64(40)).astype(np.int64)
    lone = np.bincount(slots, minlength=1)[slots] == 1
    alone = np.bincount(rows[lone], minlength=len(forms))
    able = (alone <= (1 - NEAR) * np.bincount(rows, minlength=len(forms)) + EPSILON)[rows]
    if not able.any():
        return label
    unique, columns = np.unique(windows[able], return_inverse=True)
    rows, columns = np.divmod(_distinct(rows[able] * len(unique) + columns), len(unique))
    sizes = np.bincount(rows, minlength=len(forms))
    matrix = csr_matrix(
        (np.ones(len(rows), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(forms), len(unique)),
    )
    texts, shared = _postings(rows, columns, sizes)
    budget = BUDGET
    for step in range(1, WINDOW + 1):
        one, other = texts[:-step], texts[step:]
        close = (shared[:-step] == shared[step:]) & (label[one] != label[other])
        close &= np.minimum(sizes[one], sizes[other]) >= NEAR * np.maximum(sizes[one], sizes[other]) - EPSILON
        pairs = np.stack(np.divmod(_distinct(one[close] * len(forms) + other[close]), len(forms)), 1)
        cost = np.cumsum(sizes[pairs].sum(axis=1))
        pairs = pairs[cost <= budget]
        budget -= int(cost[len(pairs) - 1]) if len(pairs) else 0
        label = _linked(label, _verified(matrix, sizes, pairs))
        if len(pairs) < len(cost):
            break
    return label


def _distinct(numbers: Places) -> Places:
    """What `np.unique` returns; on millions of numbers its hash table is several times slower."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _cut(texts: pl.Series) -> int:
    """The length at which texts are cut so that at most CHARS characters are compared."""
    lengths = texts.str.len_chars().to_numpy()
    most = int(lengths.max(initial=0))
    while most > 1 and np.minimum(lengths, most).sum(dtype=np.int64) > CHARS:
        most = math.floor(most * 0.9)
    return most


def _postings(rows: Places, columns: Places, sizes: Places) -> tuple[Places, Places]:
    """Texts and the rare window that they share with others, neighbours being of similar length."""
    uses = np.bincount(columns)
    order = np.lexsort((columns, uses[columns], rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[rows]
    prefix = sizes - np.ceil(NEAR * sizes - EPSILON).astype(np.int64) + 1
    rare = (place < prefix[rows]) & (uses[columns] > 1)
    rows, columns = rows[rare], columns[rare]
    order = np.lexsort((rows, sizes[rows], columns))
    return rows[order], columns[order]


def _verified(matrix: Any, sizes: Places, pairs: Places) -> Places:
    """The pairs that are near twins indeed."""
    near = []
    for some in np.array_split(pairs, 1 + len(pairs) // CHUNK):
        both = np.asarray(matrix[some[:, 0]].multiply(matrix[some[:, 1]]).sum(axis=1)).ravel()
        near.append(both >= NEAR * (sizes[some].sum(axis=1) - both) - EPSILON)
    found: Places = pairs[np.concatenate(near)]
    return found


def _linked(label: Places, pairs: Places) -> Places:
    """Labels after the clusters of each pair have become one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(label)
    ends = label[pairs]
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    joined: Places = connected_components(graph, directed=False)[1].astype(np.int64)
    return joined[label]
