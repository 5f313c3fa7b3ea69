"""Near twins among more texts than fit in memory, by `overlap`.

A first pass hashes every text, and finds the texts that may have a twin: MinHash in bands (Broder, 1997;
Leskovec et al., Mining of Massive Datasets, 3.4), under which two texts at the limit of similarity meet with
99.5%, and more similar ones still more surely. A second pass compares those, exactly, a batch at a time.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from .overlap import (
    MAX_CHARS,
    NEAR,
    SHORT,
    WINDOW,
    Numbers,
    Places,
    arrow,
    clusters,
    folded,
    grams,
    linked,
    words,
)

BANDS, ROWS = 10, 4
"""Two texts may be twins if in a band, under each of ROWS hash functions, their least hashes are the same."""
CHUNK = 8_000_000
"""Characters hashed at once."""
BATCH = MAX_CHARS // 2
"""Characters compared at once; texts that may be twins of each other are in one batch if they fit."""
DESCRIPTION = (
    f"at least {NEAR:.0%} of all their runs of {WINDOW} words are in both, case and punctuation aside, or a "
    "chain of such texts links them"
)
"""Of near twins."""


def twin_clusters(chunks: Callable[[], Iterable[pl.Series]]) -> Places:
    """A number for each text, the same for near twins or texts linked by a chain of such.

    `chunks` gives the texts, the same at each call. A pair at the limit of similarity is missed with 0.5%.
    Where over BATCH characters of texts may all be twins of each other, they are compared in pieces.
    """
    keys, lengths = _keys(chunks())
    numbers = np.arange(len(lengths))
    for places in _batches(_meeting(keys), lengths):
        forms = folded(_gathered(chunks(), places))
        distinct = forms.unique().sort()
        cluster = clusters(distinct)[forms.cast(pl.Enum(distinct)).to_physical().to_numpy()]
        # All texts of a cluster get the number of its first text.
        _, firsts, cluster = np.unique(cluster, return_index=True, return_inverse=True)
        numbers[places] = places[firsts][cluster]
    return numbers


def _batches(label: Places, lengths: Places) -> Iterator[Places]:
    """Places of texts that are compared with each other; texts that may be twins have one label.

    All texts of a label are in one batch, unless they have over BATCH characters.
    """
    characters = np.bincount(label, lengths).astype(np.int64)
    candidates = np.flatnonzero(np.bincount(label)[label] > 1)
    candidates = candidates[np.argsort(label[candidates], kind="stable")]
    labels = label[candidates]
    starts = np.cumsum(lengths[candidates]) - lengths[candidates]
    is_first = np.diff(labels, prepend=-1) != 0
    label_starts = starts[is_first][np.cumsum(is_first) - 1]
    batch = np.where(characters[labels] <= BATCH, label_starts, starts) // BATCH
    for number in np.unique(batch):
        yield np.sort(candidates[batch == number])


def _keys(chunks: Iterable[pl.Series]) -> tuple[Numbers, Places]:
    """A key for each text and band, and the length of each text in characters."""
    pieces = [piece for chunk in chunks for piece in map(_keys_of, _pieces(chunk))]
    if not pieces:
        return np.zeros((0, BANDS), np.uint64), np.zeros(0, np.int64)
    keys, lengths = zip(*pieces, strict=True)
    return np.concatenate(keys), np.concatenate(lengths)


def _pieces(texts: pl.Series) -> Iterator[pl.Series]:
    """The texts in slices of about CHUNK characters."""
    ends = np.cumsum(texts.str.len_chars().to_numpy().astype(np.int64))
    starts = np.flatnonzero(np.diff(ends // CHUNK, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(texts)], strict=False):
        yield texts[int(start) : int(end)]


def _keys_of(texts: pl.Series) -> tuple[Numbers, Places]:
    all_words, counts = words(texts)
    encoded = arrow(all_words).dictionary_encode()
    hashes = np.array([_hash(word) for word in encoded.dictionary.to_pylist()], np.uint64)
    ids = hashes[encoded.indices.to_numpy()].view(np.int64)
    keys = np.zeros((len(texts), BANDS), np.uint64)
    wordless = np.flatnonzero(counts == 0)
    keys[wordless] = np.array([_hash(text) for text in folded(texts[wordless])], np.uint64)[:, None]
    for n, is_chosen in ((WINDOW, counts >= SHORT), (1, (counts > 0) & (counts < SHORT))):
        windows, rows = grams(ids, counts, n, is_chosen)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        for number in range(BANDS * ROWS if len(rows) else 0):
            salt, factor = _SALTS[number], _SALTS[-1 - number] | np.uint64(1)
            least = np.minimum.reduceat((windows ^ salt) * factor, starts)
            band = keys[rows[starts], number // ROWS]
            keys[rows[starts], number // ROWS] = (band ^ least) * np.uint64(0x9E3779B97F4A7C15)
    return keys, texts.str.len_chars().to_numpy().astype(np.int64)


def _hash(text: str) -> int:
    """64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


_SALTS = np.array([_hash(f"salt {number}") for number in range(2 * BANDS * ROWS)], np.uint64)


def _meeting(keys: Numbers) -> Places:
    """A number for each text, the same for those that share the key of a band, or are linked by such."""
    label = np.arange(len(keys))
    for band in range(BANDS if len(keys) else 0):
        order = np.argsort(keys[:, band], kind="stable")
        same = np.flatnonzero(np.diff(keys[order, band]) == 0)
        label = linked(label, np.stack([order[same], order[same + 1]], 1))
    return label


def _gathered(chunks: Iterable[pl.Series], places: Places) -> pl.Series:
    """The texts at these places, which are sorted."""
    parts, start = [], 0
    for chunk in chunks:
        low, high = np.searchsorted(places, [start, start + len(chunk)])
        parts.append(chunk.gather(places[low:high] - start))
        start += len(chunk)
    return pl.concat(parts)
