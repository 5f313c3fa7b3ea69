"""Near twins: texts that share nearly all of their words.

Texts are compared by their words (runs of letters and digits, lower case) in windows: two texts are
near twins where at least 80% of all their windows of 3 words are in both (Jaccard). Candidates come from
the prefix filter of Chaudhuri et al. (2006), which misses none: if each text's windows are sorted by rarity,
two such texts share a window among their rarest 20%. Work is bounded: a hostile set gives a lower bound.
"""

import math
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]
Text = TypeVar("Text", pl.Series, pl.Expr)

NEAR = 0.8
"""Jaccard similarity from which two texts are near twins."""
WINDOW, SHORT = 3, 5
"""Words in a window; a text of fewer than SHORT words is compared by its single words."""
MAX_CHARS = 60_000_000
"""Characters compared: in a larger set the longest texts are cut, all at the same length."""
NEIGHBOURS = 16
"""Among the texts that share a rare window, each is compared with this many next to it in length."""
MAX_WINDOWS = 100_000_000
"""Windows compared when candidates are verified."""
CHUNK = 100_000
"""Candidates verified at once."""
EPSILON = 1e-9


def near_twins(texts: pl.Series) -> dict[str, Any]:
    """How many of the distinct texts have a twin: the same but for case and white space, or a near twin."""
    distinct = folded(texts.unique())
    forms = distinct.value_counts(name="texts").sort(distinct.name)
    counts = forms["texts"].to_numpy()
    sizes = np.bincount(clusters(forms[distinct.name]), weights=counts).astype(int)
    twins = int(sizes[sizes > 1].sum())
    return {
        "texts": len(distinct),
        "same_when_folded": int(counts[counts > 1].sum()),
        "with_a_near_twin": twins,
        "share_with_a_near_twin": twins / max(1, len(distinct)),
        "near_copies": twins - int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max(initial=0)),
    }


def folded(texts: Text) -> Text:
    """Texts in lower case, each run of white space as one space."""
    return texts.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def only_words(texts: Text) -> Text:
    """Texts as their words in lower case, a space between them."""
    return texts.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars(" ")


def words(texts: pl.Series) -> tuple[pl.Series, Places]:
    """All words of all texts, and how many each text has."""
    plain = only_words(texts)
    has_words = plain != ""
    split = plain.filter(has_words).str.split(" ")
    counts = np.zeros(len(texts), np.int64)
    counts[has_words.to_numpy()] = split.list.len().to_numpy()
    return split.explode(), counts


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
    words_to_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(ids))
    starts = np.flatnonzero((words_to_end >= n) & texts[rows])
    gram = np.full(len(starts), n, np.uint64)
    scattered = _mix(ids.astype(np.uint64) + np.uint64(1))
    for step in range(n):
        gram = gram * np.uint64(0x9E3779B97F4A7C15) + scattered[starts + step]
    return _mix(gram), rows[starts]


def clusters(forms: pl.Series) -> Places:
    """A number per text, the same for texts that are near twins or linked by a chain of such."""
    from scipy.sparse import csr_matrix

    label = np.arange(len(forms))
    windows, rows = _shared_windows(forms)
    if not len(rows):
        return label
    # As the inverse of `np.unique`, three times faster.
    columns = pl.Series(windows).rank("dense").to_numpy().astype(np.int64) - 1
    width = int(columns.max()) + 1
    rows, columns = np.divmod(_distinct(rows * width + columns), width)
    sizes = np.bincount(rows, minlength=len(forms))
    matrix = csr_matrix(
        (np.ones(len(rows), np.int32), columns, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(forms), width),
    )
    texts, shared = _postings(rows, columns, sizes)
    budget = MAX_WINDOWS
    for step in range(1, NEIGHBOURS + 1):
        first, second = texts[:-step], texts[step:]
        smaller, larger = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
        close = (shared[:-step] == shared[step:]) & (label[first] != label[second])
        close &= smaller >= NEAR * larger - EPSILON
        pairs = np.stack(np.divmod(_distinct(first[close] * len(forms) + second[close]), len(forms)), 1)
        cost = np.cumsum(sizes[pairs].sum(axis=1))
        pairs = pairs[cost <= budget]
        budget -= int(cost[len(pairs) - 1]) if len(pairs) else 0
        label = linked(label, _verified(matrix, sizes, pairs))
        if len(pairs) < len(cost):
            break
    return label


def _shared_windows(forms: pl.Series) -> tuple[Numbers, Places]:
    """The windows of the texts that may have a near twin, and the text each is in.

    A text with more than 20% of windows of its own can have none, which excludes most texts.
    """
    all_words, counts = words(forms.str.head(_max_length(forms)))
    ids = arrow(all_words).dictionary_encode().indices.to_numpy().astype(np.int64)
    pieces = [grams(ids, counts, WINDOW, counts >= SHORT), grams(ids, counts, 1, counts < SHORT)]
    windows, rows = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    # Counted by up to 24 of the 64 bits: a collision can hide a unique window, never invent one.
    bits = min(24, len(windows).bit_length() + 4)
    slots = (windows >> np.uint64(64 - bits)).astype(np.int64)
    is_unique = np.bincount(slots, minlength=1)[slots] == 1
    unique_counts = np.bincount(rows[is_unique], minlength=len(forms))
    is_candidate = unique_counts <= (1 - NEAR) * np.bincount(rows, minlength=len(forms)) + EPSILON
    return windows[is_candidate[rows]], rows[is_candidate[rows]]


def _distinct(numbers: Places) -> Places:
    """As `np.unique`, whose hash table is several times slower on millions of numbers."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _max_length(texts: pl.Series) -> int:
    """The length at which texts are cut so that at most MAX_CHARS characters are compared."""
    lengths = texts.str.len_chars().to_numpy()
    length = int(lengths.max(initial=0))
    while length > 1 and np.minimum(lengths, length).sum(dtype=np.int64) > MAX_CHARS:
        length = math.floor(length * 0.9)
    return length


def _postings(rows: Places, columns: Places, sizes: Places) -> tuple[Places, Places]:
    """Texts and the rare window that each shares, in an order where neighbours have similar lengths."""
    uses = np.bincount(columns)
    rarest_first = np.argsort(uses, kind="stable")
    rarity = np.empty_like(rarest_first)
    rarity[rarest_first] = np.arange(len(uses))
    rows, order = np.divmod(np.sort(rows * len(uses) + rarity[columns]), len(uses))
    columns = rarest_first[order]
    position = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[rows]
    prefix = sizes - np.ceil(NEAR * sizes - EPSILON).astype(np.int64) + 1
    rare = (position < prefix[rows]) & (uses[columns] > 1)
    rows, columns = rows[rare], columns[rare]
    order = np.lexsort((rows, sizes[rows], columns))
    return rows[order], columns[order]


def _verified(matrix: Any, sizes: Places, pairs: Places) -> Places:
    """The pairs that are near twins, by an exact count of their shared windows."""
    is_near = []
    for chunk in np.array_split(pairs, 1 + len(pairs) // CHUNK):
        shared = np.asarray(matrix[chunk[:, 0]].multiply(matrix[chunk[:, 1]]).sum(axis=1)).ravel()
        is_near.append(shared >= NEAR * (sizes[chunk].sum(axis=1) - shared) - EPSILON)
    twins: Places = pairs[np.concatenate(is_near)]
    return twins


def linked(label: Places, pairs: Places) -> Places:
    """Labels after the two clusters of each pair are joined."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(label)
    ends = label[pairs]
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    joined: Places = connected_components(graph, directed=False)[1].astype(np.int64)
    return joined[label]
