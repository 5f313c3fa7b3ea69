"""What is said of a reward model, for scorers whose every answer is known."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from almost_data.errors import InputError
from almost_data.store.publish import json_data
from almost_data.training import comparisons, leave_out, reward_report
from almost_data.training.reward_report import BUCKETS, Parts, report
from tests.evals.known import KnownScorer
from tests.training.rows import messages, pair, source


class ByRule(KnownScorer):
    """Scores a dialogue by its last turn."""

    def __init__(self, rule: Callable[[str], float]) -> None:
        super().__init__(lambda turns: rule(turns[-1]))


def parts(
    rows: list[dict[str, Any]], left_out: list[dict[str, Any]] = (), train: list[dict[str, Any]] = ()
) -> Parts:  # type: ignore[assignment]
    """Comparisons to judge on: of held-out prompts, and of a pair that was left out."""
    held = pl.DataFrame(rows)
    return Parts(
        pl.DataFrame(train) if train else held.clear(),
        held,
        pl.DataFrame(left_out) if left_out else held.clear(),
        "A > B",
    )


def mixed(n: int) -> list[dict[str, Any]]:
    """Comparisons in which chosen is the longer side in a third, and the shorter one in the others."""
    return [pair(k, f"good {k}" + "." * (9 if k % 3 == 0 else 0), f"bad {k}" + "." * 4) for k in range(n)]


def good(text: str) -> float:
    return float(text.startswith("good"))


def only(result: dict[str, Any]) -> dict[str, Any]:
    [subset] = result["subsets"]
    return subset


# --- accuracy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "accuracy"),
    [(good, 1.0), (lambda text: -good(text), 0.0), (lambda text: 0.0, 0.5), (len, 1 / 3)],
)
def test_accuracy_is_the_share_that_is_right_and_a_tie_is_half(
    rule: Callable[[str], float], accuracy: float
) -> None:
    subset = only(report(ByRule(rule), parts(mixed(120))))
    assert subset["accuracy"] == pytest.approx(accuracy)
    assert 0 <= subset["low"] <= subset["accuracy"] <= subset["high"] <= 1
    assert subset["high"] - subset["low"] < 0.2 and subset["low"] < subset["high"]
    assert (subset["rows"], subset["queries"]) == (120, 120)
    assert subset["always_longer"] == pytest.approx(1 / 3), "of the rows, whatever the model says"


def test_a_random_scorer_s_interval_has_a_half_in_it() -> None:
    inside = 0
    for seed in range(40):
        draws = np.random.default_rng(seed)
        subset = only(report(ByRule(lambda text, draws=draws: float(draws.normal())), parts(mixed(200))))  # type: ignore[misc]
        inside += subset["low"] <= 0.5 <= subset["high"]
        assert abs(subset["accuracy"] - 0.5) < 0.2
    assert 33 <= inside <= 40  # 95% of 40 is 38


def test_comparisons_of_one_query_count_as_copies() -> None:
    """Ten of each make an interval no narrower."""
    rule = ByRule(
        lambda text: good(text) * (int(text.split()[1].rstrip(".")) % 4 > 0) + 0.1 * (not good(text))
    )
    few = only(report(rule, parts(mixed(40))))
    many = only(report(rule, parts([row for row in mixed(40) for _ in range(10)])))
    assert few["accuracy"] == many["accuracy"] == 0.75 and many["rows"] == 400
    assert (few["low"], few["high"]) == pytest.approx((many["low"], many["high"]))


def test_held_out_prompts_and_the_left_out_pair_are_told_apart() -> None:
    left_out = [pair(k + 500, f"good {k}", "good too") for k in range(20)]
    result = report(ByRule(good), parts(mixed(30), left_out, [pair(k + 500) for k in range(12)]))
    assert [(subset["name"], subset["accuracy"], subset["rows"]) for subset in result["subsets"]] == [
        ("held-out prompts", 1.0, 30),
        ("left-out pair, held-out prompts: A > B", 0.5, 8),
        ("left-out pair, trained prompts: A > B", 0.5, 12),
    ]
    assert result["left_out_pair"] == "A > B"
    assert [subset["name"] for subset in report(ByRule(good), parts(mixed(3), left_out[:1]))["subsets"]] == [
        "held-out prompts",
        "left-out pair, held-out prompts: A > B",
    ]


def test_the_whole_dialogue_is_scored() -> None:
    scorer = ByRule(good)
    row = pair(1, "good", "bad") | {"prompt": messages("Hello!", "Yes?", "Why?")}
    report(scorer, parts([row]))
    assert sorted(scorer.recorded) == [("Hello!", "Yes?", "Why?", x) for x in ("bad", "good")]


def test_the_surface_model_learns_from_the_rows_trained_on_and_is_judged_on_the_same() -> None:
    """It is told `chosen` by its end, which the scorer does not see."""
    train = [pair(k + 900, f"yes {k}!", f"no {k}?") for k in range(200)]
    rows = [pair(k, f"so {k}!", f"so {k}?") for k in range(30)]
    assert only(report(ByRule(lambda text: 0.0), parts(rows, train=train)))["probe"] > 0.95
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    assert only(report(ByRule(lambda text: 0.0), parts(turned, train=train)))["probe"] < 0.05
    assert only(report(ByRule(good), parts(rows)))["probe"] is None, "nothing to learn from"


def test_nothing_to_judge_on_is_no_report() -> None:
    empty = parts([pair(1)])
    result = report(ByRule(good), Parts(empty.train, empty.held_out.clear(), empty.left_out, None))
    assert result == {
        "subsets": [],
        "left_out_pair": None,
        "buckets": [],
        "calibration": None,
        "rewards": None,
    }


def test_rewards_are_those_of_all_that_was_judged() -> None:
    rule = lambda text: float(len(text))  # noqa: E731
    rows = mixed(30)
    rewards = report(ByRule(rule), parts(rows))["rewards"]
    values = [rule(row[side][0]["content"]) for row in rows for side in ("chosen", "rejected")]
    assert rewards == {
        "mean": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values)),
        "rows": 60,
    }


@pytest.mark.parametrize("rule", [good, lambda text: np.float32(0.5), lambda text: 1e30 * good(text)])
def test_a_report_is_json(rule: Callable[[str], float]) -> None:
    train = [pair(k + 900, f"yes {k}!", f"no {k}?") for k in range(60)]
    result = json_data(report(ByRule(rule), parts(mixed(30), mixed(9), train)))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


# --- by length -------------------------------------------------------------------------------------------


def by_length() -> list[dict[str, Any]]:
    sizes = [(50, 100)] * 10 + [(91, 100), (100, 95)] * 6 + [(100, 40)] * 14
    return [pair(n, "g" * a, "b" * b) for n, (a, b) in enumerate(sizes)]


def test_buckets_are_by_which_side_is_longer() -> None:
    buckets = report(ByRule(lambda text: float(len(text))), parts(by_length()))["buckets"]
    assert [(bucket["name"], bucket["rows"], bucket["accuracy"]) for bucket in buckets] == [
        (BUCKETS[0], 10, 0.0), (BUCKETS[1], 12, 0.5), (BUCKETS[2], 14, 1.0),
    ]  # fmt: skip
    assert all(bucket["low"] <= bucket["accuracy"] <= bucket["high"] for bucket in buckets)


def test_sides_changed_is_buckets_changed() -> None:
    """Also at the border itself."""
    rows = by_length() + [pair(n, "g" * 90, "b" * 100) for n in range(100, 109)]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    scorer = ByRule(lambda text: float(text.startswith("g")))
    buckets, turned_buckets = (
        report(scorer, parts(judged_rows))["buckets"] for judged_rows in (rows, turned)
    )
    assert [b["rows"] for b in buckets] == [b["rows"] for b in turned_buckets[::-1]]
    assert {b["accuracy"] for b in buckets} == {1.0} and {b["accuracy"] for b in turned_buckets} == {0.0}


def test_a_bucket_of_a_few_has_no_number() -> None:
    assert report(ByRule(good), parts(by_length()[: reward_report.FEW - 1]))["buckets"] == []
    assert len(report(ByRule(good), parts(by_length()[: reward_report.FEW]))["buckets"]) == 1


# --- calibration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.55, 0.65, 0.75, 0.95])
def test_a_scorer_that_is_as_right_as_it_is_sure_is_calibrated(confidence: float) -> None:
    rows = [pair(n, f"good {n}", f"bad {n}") for n in range(400)]
    gap = math.log(confidence / (1 - confidence))

    def right(n: int) -> bool:
        return n < round(confidence * 400)

    def rule(text: str) -> float:
        word, number = text.split()
        return gap if (word == "good") == right(int(number)) else 0.0

    result = report(ByRule(rule), parts(rows))["calibration"]
    [bin_] = result["bins"]
    assert bin_["confidence"] == pytest.approx(confidence) and bin_["accuracy"] == pytest.approx(confidence)
    assert bin_["low"] <= confidence < bin_["high"] and bin_["rows"] == 400
    assert result["ece"] == pytest.approx(0, abs=1e-9)


def test_a_scorer_that_is_too_sure_is_not() -> None:
    rows = [pair(n, f"good {n}", f"bad {n}") for n in range(100)]

    def rule(text: str) -> float:
        word, number = text.split()
        return 100.0 if (word == "good") == (int(number) < 60) else 0.0

    result = report(ByRule(rule), parts(rows))["calibration"]
    assert result["ece"] == pytest.approx(0.4) and result["bins"][0]["rows"] == 100
    assert report(ByRule(good), parts(rows[:7]))["calibration"] is None


# --- what is judged --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("each", "queries"), [(7, 7), (5, 10), (1, 50)])
def test_of_many_comparisons_whole_queries_are_judged_and_the_same_ones(
    monkeypatch: pytest.MonkeyPatch, each: int, queries: int
) -> None:
    monkeypatch.setattr(reward_report, "JUDGED", 50)
    rows = [pair(n // each, f"good {n}", f"bad {n}") for n in range(700)]
    judged = []
    for ordered_rows in (rows, rows[::-1]):
        scorer = ByRule(good)
        subset = only(report(scorer, parts(ordered_rows)))
        texts = {turns[-1] for turns in scorer.recorded if turns[-1].startswith("good")}
        assert subset["rows"] == len(texts) == each * queries and subset["queries"] == queries
        judged.append(texts)
    assert judged[0] == judged[1]
    one_query = [pair(1, f"good {n}", f"bad {n}") for n in range(70)]
    assert only(report(ByRule(good), parts(one_query)))["rows"] == 50


# --- the pair that is left out ---------------------------------------------------------------------------


def ladder() -> Any:
    sizes = {("A", "B"): 30, ("A", "C"): 9, ("B", "C"): 12, ("C", "D"): 7}
    rows = [pair(n, f"{a} {n}", f"{b} {n}", a, b) for (a, b), size in sizes.items() for n in range(size)]
    return comparisons(source(rows, test=rows[:3] + rows[30:33]))


@pytest.mark.parametrize(
    ("setting", "named"),
    [("auto", "A > C"), ("B > C", "B > C"), ("C > D", "C > D"), ("none", None)],
)
def test_a_pair_is_out_of_training_and_of_the_held_out_prompts(setting: str, named: str | None) -> None:
    ladder_source = ladder()
    parts = leave_out(ladder_source, setting)
    assert parts.pair == named
    for rows in (parts.train, parts.held_out):
        assert named not in (rows["chosen_responder"] + " > " + rows["rejected_responder"]).to_list()
    left_out = parts.left_out
    assert set((left_out["chosen_responder"] + " > " + left_out["rejected_responder"]).to_list()) == (
        {named} - {None}
    )
    all_parts = [parts.train, parts.held_out, left_out]
    assert sum(map(len, all_parts)) == len(ladder_source.train) + len(ladder_source.test), "no row is lost"


def test_too_few_pairs_leave_nothing_out() -> None:
    ladder_source = ladder()
    two = pl.col("chosen_responder").is_in(["B", "C"])
    few = reward_report.leave_out(
        reward_report.Source(**{**vars(ladder_source), "train": ladder_source.train.filter(two)}), "auto"
    )
    assert few.pair is None and not len(few.left_out)


def test_a_row_that_does_not_say_who_wrote_it_stays() -> None:
    rows = [pair(n, a="A" if n % 2 else "C") for n in range(40)] + [pair(99) | {"chosen_responder": None}]
    parts = leave_out(comparisons(source(rows, test=[pair(98, a="A")])), "A > B")
    assert (len(parts.train), len(parts.left_out)) == (21, 21) and None in parts.train[
        "chosen_responder"
    ].to_list()


def test_a_pair_that_is_not_there_is_refused() -> None:
    alone = comparisons(source([pair(n) for n in range(20)], test=[]))
    assert leave_out(alone, "auto").pair is None
    with pytest.raises(InputError, match="all rows are of that pair"):
        leave_out(alone, "A > B")
    with pytest.raises(InputError, match="no such pair; the pairs are: C > D, A > C, B > C, A > B"):
        leave_out(ladder(), "A > D")
    nameless = comparisons(source([{"prompt": "a", "chosen": "b", "rejected": "c"}], test=[]))
    assert leave_out(nameless, "auto").pair is leave_out(nameless, "none").pair is None
    with pytest.raises(InputError, match="does not name the responders"):
        leave_out(nameless, "A > B")
    one_sided = replace(alone, train=alone.train.drop("rejected_responder"))
    assert leave_out(one_sided, "auto").pair is None
    with pytest.raises(InputError, match="does not name the responders"):
        leave_out(one_sided, "A > B")
