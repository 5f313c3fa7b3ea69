"""ROUGE-L of a text against all earlier ones, as `rouge-score` computes it, by rapidfuzz's fast LCS."""

import re

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

_TOKEN = re.compile(r"[a-z0-9]+")


class Novelty:
    """The texts added so far, and the nearest of them to a new text.

    The score is the F1 of ROUGE-L with rouge-score's default tokenizer, without stemming: lower
    case, runs of a-z and 0-9. It is computed by the same floating-point steps, so a comparison with
    a threshold falls the same way. Text without such characters has no tokens and scores 0.
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
