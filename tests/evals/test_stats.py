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


def test_a_difference_has_nearly_the_bootstraps_interval() -> None:
    gaps = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.5, 0.3])
    value, low, high = stats.paired(gaps.tolist())
    want = scipy_stats.bootstrap((gaps,), np.mean, method="percentile", rng=np.random.default_rng(2))
    assert value == pytest.approx(gaps.mean())
    assert low == pytest.approx(want.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(want.confidence_interval.high, abs=0.01)


def test_copies_of_an_item_say_nothing_new() -> None:
    gaps = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 60)
    copies, names = np.repeat(gaps, 4).tolist(), np.repeat(np.arange(60), 4).tolist()
    alone, naive, grouped = stats.paired(gaps.tolist()), stats.paired(copies), stats.paired(copies, names)
    assert grouped == pytest.approx(alone, abs=1e-3)
    assert naive[2] - naive[1] < 0.6 * (grouped[2] - grouped[1])


def test_of_nothing_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="no item"):
        stats.paired([])


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
    # No difference of shares is beyond -1 or 1.
    assert stats.paired([-1.0])[1] == -1.0
