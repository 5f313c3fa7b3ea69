"""Intervals, against other ways to the same numbers."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from almost_data.evals import stats


@pytest.mark.parametrize("hits,n", [(0, 5), (3, 10), (50, 100), (100, 100)])
def test_a_share_has_wilsons_interval(hits: int, n: int) -> None:
    value, low, high = stats.share([1.0] * hits + [0.0] * (n - hits))
    want = scipy_stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert value == hits / n
    assert (low, high) == pytest.approx((want.low, want.high), abs=2e-4)


def test_a_mean_has_the_bootstraps_interval() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 80)
    value, low, high = stats.mean(values.tolist())
    want = scipy_stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    assert value == pytest.approx(values.mean())
    assert low == pytest.approx(want.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(want.confidence_interval.high, abs=0.02)
    assert stats.mean(values.tolist()) == (value, low, high), "the same numbers, the same interval"


def test_groups_are_drawn_whole() -> None:
    values = np.random.default_rng(3).normal(0, 1, 30)
    copies, names = np.repeat(values, 4).tolist(), np.repeat(np.arange(30), 4).tolist()
    alone, naive, grouped = stats.mean(values.tolist()), stats.mean(copies), stats.mean(copies, groups=names)
    assert grouped == pytest.approx(alone, abs=1e-3), "copies of an item say nothing new"
    assert naive[2] - naive[1] < 0.6 * (grouped[2] - grouped[1])
    # Of groups of different sizes, by brute force.
    random, sizes = np.random.default_rng(4), [1, 5, 2, 9, 3, 1, 1, 4]
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    random_values = random.normal(0, 1, len(groups))
    means = [
        np.concatenate(
            [random_values[np.array(groups) == group_number] for group_number in random.integers(0, 8, 8)]
        ).mean()
        for _ in range(4000)
    ]
    _, low, high = stats.mean(random_values.tolist(), groups=groups)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.06)


def test_how_many_are_drawn_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(0, 1, 50).tolist()
    whole = stats.mean(values)
    monkeypatch.setattr(stats, "BATCH", 1234)
    assert stats.mean(values) == pytest.approx(whole, abs=0.02)


def test_of_nothing_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no item"):
        stats.mean([])


def test_groups_of_unequal_size_do_not_move_the_interval() -> None:
    gaps = [0.0] * 40 + [1.0] + [0.0] * 18 + [-1.0]
    names = ["large"] * 20 + list(range(40))
    value, low, high = stats.paired(gaps, names)
    assert value == 0.0 and low == pytest.approx(-high, abs=0.01)
    alone = stats.paired(gaps)
    assert high - low > alone[2] - alone[1], "the usual group is larger than one item"
    # One group says nothing of any other.
    _, low, high = stats.paired([0.1] * 50, ["one"] * 50)
    assert low < -0.5 and high > 0.5
