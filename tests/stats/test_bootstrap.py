import numpy as np
import pytest
from scipy import stats as scipy_stats

from tenbin.stats import Undefined, bootstrap, bootstrap_by_index, mean_of_values


def test_bca_agrees_with_scipy():
    values = np.random.default_rng(5).beta(1, 4, size=60)
    codes, mean = mean_of_values(values)
    ours = bootstrap(codes, mean, num_resamples=20_000)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=3e-3)


def test_percentile_agrees_with_the_slow_way():
    values = np.random.default_rng(6).random(40)
    codes, mean = mean_of_values(values)
    fast = bootstrap(codes, mean, method="percentile", num_resamples=20_000)
    slow = bootstrap_by_index(40, lambda rows: float(values[rows].mean()), num_resamples=5_000)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.01)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_groups_are_drawn_whole(method):
    values = [1.0] * 30 + [0.0] * 30
    groups = [str(i // 10) for i in range(60)]
    codes, mean = mean_of_values(values)
    alone, grouped = (bootstrap(codes, mean, groups=g, method=method) for g in (None, groups))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    slow = bootstrap_by_index(60, lambda rows: float(np.mean([values[i] for i in rows])), groups=groups)
    assert slow.high - slow.low == pytest.approx(grouped.high - grouped.low, abs=0.2)


def test_a_perfect_score_still_has_an_interval():
    codes, mean = mean_of_values([1.0] * 20)
    found = bootstrap(codes, mean)
    assert found.high == 1.0
    assert found.low == pytest.approx(20 / (20 + 1.959964**2), abs=1e-5)


def test_undefined_statistics():
    def never(counts):
        return np.full(counts.shape[0], np.nan)

    def sometimes(counts):
        return np.where(counts[:, 1] > 0, counts[:, 0], np.nan)

    assert isinstance(bootstrap([0, 1, 1], never), Undefined)
    assert isinstance(bootstrap([0], never), Undefined)
    rare = bootstrap([0] * 5 + [1], sometimes)
    assert isinstance(rare, Undefined)
    assert "resamples" in rare.reason
    found = bootstrap([0] * 20 + [1] * 4, sometimes, bounds=(0, 24))
    assert "undefined" in found.method
