"""What picking the best of N by a reward model did, and how far that can be trusted.

With more samples to pick from, the score of the pick rises, and a larger part of the rise is the reward
model's error. So its score is reported with the KL that best-of-n costs and with the length that it favours.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
OPENING = 4
"""Words that make an opening."""
OPENING_CHARS = 100
"""Most characters of it, where a language has no spaces."""
FAR = 3.0
"""Standard deviations from the mean of its test scores at which a reward model's score is out of range."""
MAX_SCORE_BINS = 40
"""Most bins of the histogram of scores; numpy's rule `auto` says how many."""


def report(parts: Iterable[pl.DataFrame], n: int, reference: dict[str, Any] | None) -> dict[str, Any]:
    """Numbers for manifest and card from the candidates of all turns (JSON data).

    Candidates come in parts that hold all replies to a turn, a row per reply: `query_id`, `conversation`,
    `turn`, `sample`, `response`, `score`, `rank`, `second_score`. Turns count where all N replies have a
    score. `reference` are the mean and std of the reward model's scores on replies that it was judged on,
    where its manifest has them.
    """
    (scores, lengths, second), repeated, picked_openings = _turns(parts, n)
    if not len(scores):
        return {"turns": 0}
    best = scores.argmax(axis=1)
    longest = lengths == lengths.max(axis=1, keepdims=True)
    in_second = np.isfinite(second).all(axis=1)
    openings = picked_openings.to_frame("opening").group_by("opening", maintain_order=True).len("times")
    # Of equally frequent ones the first.
    opening, times = openings.sort("times", descending=True, maintain_order=True).row(0)
    return {
        "turns": len(scores),
        # How often a second reward model would have picked the same, and its expected score of the pick.
        "second": _second(scores[in_second], second[in_second]) if in_second.any() else None,
        "curve": [
            {
                "n": k,
                "score": float(expected_best(scores, scores, k).mean()),
                "characters": float(expected_best(scores, lengths, k).mean()),
                "kl": math.log(k) - (k - 1) / k,
            }
            for k in range(1, n + 1)
        ],
        "longest_won": float(longest[np.arange(len(best)), best].mean()),
        # Among replies drawn by chance, the longest is as likely as there are longest ones.
        "longest_by_chance": float(longest.mean(axis=1).mean()),
        "turns_with_repeated_candidates": repeated / len(scores),
        "most_frequent_opening": {"words": opening, "share": times / len(scores)},
        "scores": _scores(scores, scores[np.arange(len(best)), best], reference),
    }


def _turns(parts: Iterable[pl.DataFrame], n: int) -> tuple[Numbers, int, pl.Series]:
    """Of the turns of which all N replies have a score: scores, lengths and second scores, each by turn and
    sample; how many have two replies of the same text; the openings of the picked replies.

    A second score is NaN where there is none.
    """
    group = ("query_id", "conversation", "turn")
    numbers: list[Numbers] = [np.empty((0, n, 3))]
    repeated, openings = 0, [pl.Series(dtype=pl.String)]
    for candidates in parts:
        scored = candidates.filter(pl.col("score").is_not_null())
        complete = scored.filter(pl.len().over(group) == n).sort(*group, "sample")
        length = pl.col("response").str.len_chars()
        columns = complete.select("score", length, "second_score").cast(pl.Float64)
        numbers.append(columns.to_numpy().reshape(-1, n, 3))
        texts = complete["response"].to_list()
        repeated += sum(len(set(texts[start : start + n])) < n for start in range(0, len(texts), n))
        picked = complete.filter(rank=0)["response"]
        starts = [" ".join(text.split()[:OPENING])[:OPENING_CHARS] for text in picked]
        openings.append(pl.Series(starts, dtype=pl.String))
    return np.moveaxis(np.concatenate(numbers), 2, 0), repeated, pl.concat(openings)


def _second(scores: Numbers, second: Numbers) -> dict[str, Any]:
    """The second reward model's opinion, in the turns of which it scored all replies."""
    n = scores.shape[1]
    return {
        "turns": len(scores),
        "agreement": float((second.argmax(axis=1) == scores.argmax(axis=1)).mean()),
        "by_chance": 1 / n,
        "curve": [float(expected_best(scores, second, k).mean()) for k in range(1, n + 1)],
    }


def expected_best(scores: Numbers, values: Numbers, k: int) -> Numbers:
    """For each row of N, the expected value of the best-scored of `k` replies drawn without replacement.

    Unbiased, and exact: the reply that is the i-th from below (from 1) is the best of k in C(i-1, k-1) of
    the C(N, k) draws. Equal scores are in the order of the samples, the first one the better.

    >>> expected_best(np.array([[1.0, 3.0, 2.0]]), np.array([[1.0, 3.0, 2.0]]), 2).tolist()
    [2.6666666666666665]
    """
    n = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")[:, ::-1]
    weights = np.array([math.comb(i, k - 1) for i in range(n)]) / math.comb(n, k)
    weighted: Numbers = np.take_along_axis(values, order, axis=1) @ weights
    return weighted


def _bins(scores: Numbers) -> int:
    try:
        return min(MAX_SCORE_BINS, len(np.histogram_bin_edges(scores, "auto")) - 1)
    except ValueError:  # the scores differ in their last digits only: there is no number between them
        return 1


def _scores(scores: Numbers, chosen: Numbers, reference: dict[str, Any] | None) -> dict[str, Any]:
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1, _bins(scores) + 1)
    summary: dict[str, Any] = {
        "mean": float(scores.mean()),
        "std": float(scores.std()),
        "chosen_mean": float(chosen.mean()),
        "edges": edges.tolist(),
        "all": np.histogram(scores, edges)[0].tolist(),
        "chosen": np.histogram(chosen, edges)[0].tolist(),
    }
    if reference and reference.get("std"):
        off = np.abs(chosen - reference["mean"]) > FAR * reference["std"]
        summary["reference"] = {"mean": reference["mean"], "std": reference["std"], "rows": reference["rows"]}
        summary["out_of_range"] = float(off.mean())
    return summary
