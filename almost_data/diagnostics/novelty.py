"""ROUGE-L of a text against all earlier ones, by rapidfuzz's fast LCS: as `rouge-score` where that can read.

`rouge-score` is blind outside a-z and 0-9: two Chinese texts score 0, or 1 if they share one Latin word. So
letters of other scripts are tokens too: single characters where words are not spaced (Chinese, Japanese,
Korean, Thai, ...), whole words elsewhere (Cyrillic, Arabic, Devanagari, ...). Latin text scores as before.
"""

import re
import unicodedata

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

_LATIN = (
    "a-z0-9\u00aa\u00b2\u00b3\u00b5\u00b9\u00ba\u00bc-\u00be\u00c0-\u02af\u1e00-\u1eff\u2c60-\u2c7f"
    "\ua720-\ua7ff\ufb00-\ufb06"
)
"""Letters of words that `rouge-score` reads, in part or not at all."""
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai and Lao, Tibetan, Burmese, Khmer, kana, Han, Hangul."""
_MARKS = "".join(chr(code) for code in range(0x0483, 0x1AFF) if unicodedata.category(chr(code))[0] == "M")
"""Vowel signs and the like, which belong to the word that they stand in."""
_TOKEN = re.compile(rf"[a-z0-9]+|(?![\W_])[{_UNSPACED}]|(?:(?![{_LATIN}{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))+")


class Novelty:
    """The texts added so far, and the nearest of them to a new text.

    The score is the F1 of ROUGE-L. Of Latin text it is that of rouge-score's default tokenizer, without
    stemming, by the same floating-point steps, so a comparison with a threshold falls the same way. Text
    without letters and digits has no tokens and scores 0.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._encoded: list[str] = []
        self._lengths: list[int] = []
        self._letters: dict[str, str] = {}

    def add(self, text: str) -> None:
        encoded = self._encode(text)
        self.texts.append(text)
        self._encoded.append(encoded)
        self._lengths.append(len(encoded))

    def nearest(self, text: str) -> tuple[str | None, float]:
        """The most similar earlier text (of equals, the first) and its score, or (None, 0.0)."""
        encoded = self._encode(text)
        if not encoded or not self.texts:
            return None, 0.0
        lcs = process.cdist([encoded], self._encoded, scorer=LCSseq.similarity, dtype=np.int32)[0]
        lengths = np.array(self._lengths)
        hit = lcs > 0
        precision = lcs[hit] / len(encoded)
        recall = lcs[hit] / lengths[hit]
        scores = np.zeros(len(lcs))
        scores[hit] = 2 * precision * recall / (precision + recall)
        best = int(scores.argmax())
        return (self.texts[best], float(scores[best])) if scores[best] > 0 else (None, 0.0)

    def _encode(self, text: str) -> str:
        # One character stands for each word, so that the LCS of words is an LCS of strings. Surrogates,
        # which are not characters, are skipped.
        letters = self._letters
        for word in (words := _TOKEN.findall(text.lower())):
            if word not in letters:
                code = len(letters) + 1
                letters[word] = chr(code if code < 0xD800 else code + 0x800)
        return "".join(letters[word] for word in words)
