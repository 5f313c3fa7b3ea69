"""The report on best-of-n says what brute force says, in plain JSON, for any scores."""

import json
import math
from itertools import combinations, pairwise, product
from statistics import fmean
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from almost_data.builders.demonstrations.best_of_n import FAR, MAX_SCORE_BINS, expected_best, report
from almost_data.datasets.manifest import canonical_json
from tests import schema


def candidates(turns: list[list[tuple[str, float | None]]], order: list[int] | None = None) -> pl.DataFrame:
    """A row per reply, with ranks as the builder gives them. `order` is that of the rows."""
    rows: list[dict[str, Any]] = []
    for turn, replies in enumerate(turns):
        usable = [sample for sample, (_, score) in enumerate(replies) if score is not None]
        ranked = sorted(usable, key=lambda sample: -(replies[sample][1] or 0.0))
        for sample, (text, score) in enumerate(replies):
            rows.append(
                {
                    "query_id": f"{turn:016x}",
                    "conversation": 0,
                    "turn": 1,
                    "sample": sample,
                    "response": text,
                    "score": score,
                    "rank": ranked.index(sample) if sample in ranked else None,
                }
            )
    return schema.frame("demonstrations", "candidates", [rows[at] for at in order or range(len(rows))])


def brute(scores: list[float], values: list[float], k: int) -> float:
    """The mean over all draws of `k` of the value of the best-scored, of equals the first sample's."""
    return fmean(
        values[max(draw, key=lambda i: (scores[i], -i))] for draw in combinations(range(len(scores)), k)
    )


@pytest.mark.parametrize("n", range(1, 6))
def test_expected_best_is_brute_force_for_every_order_and_tie(n: int) -> None:
    draws = [list(map(float, scores)) for scores in product(range(n), repeat=n)]
    values = [float(7**i % 31) for i in range(n)]
    for k in range(1, n + 1):
        for is_resampled in (True, False):
            gains = expected_best(
                np.array(draws), np.array(draws if is_resampled else [values] * len(draws)), k
            )
            want = [brute(scores, scores if is_resampled else values, k) for scores in draws]
            np.testing.assert_allclose(gains, want, rtol=1e-12, atol=1e-12)


numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-2, 2).map(float)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=6)
    )
)
def test_the_curve_is_brute_force_for_any_scores(scores: list[list[float]]) -> None:
    n = len(scores[0])
    texts = [[f"{'ab'[i % 2]} " * (3 * i % 7 + row) for i in range(n)] for row in range(len(scores))]
    turns = [list(zip(*pair, strict=True)) for pair in zip(texts, scores, strict=True)]
    figures = report([candidates(turns)], n, None)
    lengths = [[float(len(text)) for text in texts_of] for texts_of in texts]
    for k, point in enumerate(figures["curve"], start=1):
        assert point["n"] == k
        rows = range(len(scores))
        assert point["score"] == pytest.approx(
            fmean(brute(scores[r], scores[r], k) for r in rows), rel=1e-9, abs=1e-6
        )
        assert point["characters"] == pytest.approx(fmean(brute(scores[r], lengths[r], k) for r in rows))
    curve = [point["score"] for point in figures["curve"]]
    assert all(b >= a - 1e-6 for a, b in pairwise(curve)), "more replies, a better best"
    assert curve[-1] == pytest.approx(figures["scores"]["chosen_mean"], rel=1e-9, abs=1e-6)
    assert curve[0] == pytest.approx(figures["scores"]["mean"], rel=1e-9, abs=1e-6)
    assert sum(figures["scores"]["all"]) == n * len(scores) and sum(figures["scores"]["chosen"]) == len(
        scores
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures and canonical_json(figures)


def test_the_order_of_rows_changes_nothing() -> None:
    turns = [[(f"{t} {s} " * (s + t), float((s * 5 + t) % 3)) for s in range(4)] for t in range(7)]
    backwards = list(range(28))[::-1]
    assert canonical_json(report([candidates(turns)], 4, None)) == canonical_json(
        report([candidates(turns, backwards)], 4, None)
    )


def test_kl_of_best_of_n_is_that_of_the_formula() -> None:
    numbers = report([candidates([[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)]])], 4, None)
    assert [point["kl"] for point in numbers["curve"]] == pytest.approx(
        [0.0, math.log(2) - 1 / 2, math.log(3) - 2 / 3, math.log(4) - 3 / 4]
    )
    # What the formula says of two replies: the better one of two has density 2u over ranks u, and the KL of
    # that from the uniform is the integral of 2u log 2u.
    steps = (np.arange(100_000) + 0.5) / 100_000
    assert numbers["curve"][1]["kl"] == pytest.approx(float(np.mean(2 * steps * np.log(2 * steps))), abs=1e-6)


def test_what_was_picked_by_hand() -> None:
    numbers = report(
        [
            candidates(
                [
                    [("You can do it so", 3.0), ("You", 1.0), ("You can", 2.0)],  # the longest won
                    [("You can do it", 2.0), ("No", 3.0), ("You can do", 1.0)],  # the shortest won
                    [("abc", 0.0), ("abc", 0.0), ("a", 0.0)],  # equal scores: the first, one of two longest
                    [("abcd", 0.0), ("abcd", 1.0), ("abcd", 0.5)],  # all the same text
                    [("no score", None), ("x", 9.0), ("long " * 9, 1.0)],  # does not count
                ]
            )
        ],
        3,
        None,
    )
    assert numbers["turns"] == 4
    assert numbers["longest_won"] == 3 / 4
    assert numbers["longest_by_chance"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 1) / 4)
    assert numbers["turns_with_repeated_candidates"] == 2 / 4
    assert numbers["most_frequent_opening"] == {"words": "You can do it", "share": 1 / 4}
    assert numbers["curve"][2]["score"] == pytest.approx((3 + 3 + 0 + 1) / 4)
    assert numbers["curve"][2]["characters"] == pytest.approx((16 + 2 + 3 + 4) / 4)
    assert numbers["second"] is None


def test_a_second_model_agrees_as_often_as_counted_by_hand() -> None:
    frame = candidates([[("a", 1.0), ("b", 2.0)], [("c", 4.0), ("d", 3.0)], [("e", 5.0), ("f", 6.0)]])
    frame = frame.with_columns(second_score=pl.Series([0.0, 1.0, 0.0, 10.0, 100.0, 100.0]))
    numbers = report([frame], 2, None)["second"]
    # The same in the first turn, another in the second; of equals it takes the first, which was not picked.
    assert numbers["agreement"] == pytest.approx(1 / 3) and numbers["by_chance"] == 1 / 2
    assert numbers["curve"] == pytest.approx([(0.5 + 5 + 100) / 3, (1 + 0 + 100) / 3])


def test_turns_that_the_second_model_did_not_score_are_left_out() -> None:
    frame = candidates([[("a", 1.0), ("b", 2.0)], [("c", 4.0), ("d", 3.0)], [("e", 5.0), ("f", 6.0)]])
    for missing in (None, math.nan):
        scored = frame.with_columns(second_score=pl.Series([0.0, 1.0, 0.0, 10.0, missing, 100.0]))
        numbers = report([scored], 2, None)["second"]
        assert (numbers["turns"], numbers["agreement"]) == (2, 1 / 2)


def test_openings_are_counted_over_all_parts() -> None:
    """The most frequent opening has one turn in each part, beside many that come once."""
    parts = [
        [[("It is so: yes", 1.0), ("", 0.0)], *([(f"{part} {row}", 1.0), ("", 0.0)] for row in range(9))]
        for part in range(4)
    ]
    numbers = report([candidates(turns) for turns in parts], 2, None)
    assert numbers["most_frequent_opening"] == {"words": "It is so: yes", "share": 4 / 40}


def test_scores_far_from_the_reward_models_own_are_counted() -> None:
    turns = [[(f"{t}", float(t)), ("x", -50.0)] for t in range(10)]
    usual = {"mean": 1.0, "std": 2.0, "rows": 77, "more": "not copied"}
    numbers = report([candidates(turns)], 2, usual)["scores"]
    assert numbers["reference"] == {"mean": 1.0, "std": 2.0, "rows": 77}
    # Of the picked 0..9: beyond 1 + 3 * 2 are 8 and 9; what was not picked does not count.
    assert FAR == 3 and numbers["out_of_range"] == 0.2
    for unknown in (None, {}, {"mean": 1.0, "std": 0.0, "rows": 1}):
        assert not {"reference", "out_of_range"} & report([candidates(turns)], 2, unknown)["scores"].keys()


@pytest.mark.parametrize("score", [0.0, -1e-300, 1e9, -3.7])
def test_one_turn_and_equal_scores(score: float) -> None:
    numbers = report(
        [candidates([[("a b", score), ("c d e", score)]])], 2, {"mean": 0.0, "std": 1.0, "rows": 3}
    )
    assert numbers["turns"] == 1
    assert [point["score"] for point in numbers["curve"]] == [score, score]
    assert [point["characters"] for point in numbers["curve"]] == [4.0, 3.0], (
        "the first of equals is the best"
    )
    assert numbers["longest_won"] == 0.0 and numbers["scores"]["std"] == 0.0
    assert sum(numbers["scores"]["all"]) == 2 and sum(numbers["scores"]["chosen"]) == 1
    edges = numbers["scores"]["edges"]
    assert 2 <= len(edges) <= MAX_SCORE_BINS + 1 and all(a < b for a, b in pairwise(edges))
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


@pytest.mark.parametrize("turns", [[], [[("a", None), ("b", None)]], [[("a", 1.0), ("", None)]]])
def test_nothing_scored_is_no_turn(turns: list[list[tuple[str, float | None]]]) -> None:
    assert report([candidates(turns)], 2, {"mean": 0.0, "std": 1.0, "rows": 3}) == {"turns": 0}


def test_scores_that_differ_in_their_last_digit() -> None:
    scores = report([candidates([[("a", 0.3), ("b", 0.1 + 0.2)]])], 2, None)["scores"]
    assert sum(scores["all"]) == 2 and sum(scores["chosen"]) == 1
