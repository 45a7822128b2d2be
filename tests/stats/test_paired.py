import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.stats import (
    Undefined,
    holm,
    mcnemar,
    mean_of_values,
    paired_bootstrap,
    paired_permutation,
    sign_flip,
)
from tenbin.stats.paired import _sign_flip_drawn


def test_mcnemar_by_hand():
    assert mcnemar(8, 1).p_value == pytest.approx(20 / 512)
    assert mcnemar(0, 0).p_value == 1.0
    assert mcnemar(3, 0, n=13).difference == pytest.approx(3 / 13)


def enumerate_p(differences: list[float]) -> float:
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@given(st.lists(st.sampled_from([-1, -0.5, 0, 0.5, 1]), min_size=1, max_size=9))
def test_the_exact_test_equals_enumeration_for_grades(differences):
    found = sign_flip(differences, [0.0] * len(differences))
    assert found.p_value == pytest.approx(enumerate_p(differences))
    assert "exact" in found.method


@given(st.lists(st.integers(-(10**6), 10**6).map(lambda k: k * np.pi / 1e7), min_size=1, max_size=8))
def test_the_exact_test_equals_enumeration_for_any_scores(differences):
    found = sign_flip(differences, [0.0] * len(differences))
    assert found.p_value == pytest.approx(enumerate_p(differences), abs=1e-6)


def test_monte_carlo_is_near_exact_and_never_0():
    differences = np.abs(np.random.default_rng(0).choice([0.5, 1.0, -0.5], size=25, p=[0.5, 0.2, 0.3]))
    signs = np.random.default_rng(1).choice([1, -1], size=25, p=[0.7, 0.3])
    exact = sign_flip(differences * signs, np.zeros(25)).p_value
    drawn = _sign_flip_drawn(
        differences, abs(float((differences * signs).sum())), np.random.default_rng(2), 40_000
    )
    assert drawn == pytest.approx(exact, abs=0.01)
    far = sign_flip(np.random.default_rng(3).random(200), np.zeros(200), num_resamples=500)
    assert far.p_value == pytest.approx(1 / 501)


def test_groups_flip_together():
    first, second = [1.0] * 20, [0.0] * 20
    groups = [str(i // 5) for i in range(20)]
    found = sign_flip(first, second, groups=groups)
    assert found.p_value == pytest.approx(2 / 2**4)
    assert found.n == 4


def test_sign_flip_edges():
    assert sign_flip([1, 0], [1, 0]).p_value == 1.0
    assert isinstance(sign_flip([], []), Undefined)
    with pytest.raises(ValueError, match="paired scores"):
        sign_flip([1.0], [1.0, 0.0])


def test_paired_bootstrap_of_means():
    rng = np.random.default_rng(4)
    a = rng.random(80)
    b = np.clip(a - 0.1 + rng.normal(0, 0.05, 80), 0, 1)
    codes_a, mean_a = mean_of_values(a)
    codes_b, mean_b = mean_of_values(b)
    found = paired_bootstrap(codes_a, codes_b, mean_a, second_statistic=mean_b)
    assert found.value == pytest.approx(float((a - b).mean()))
    assert 0 < found.low < found.value < found.high < 0.15


def test_paired_permutation_agrees_with_sign_flip_for_means():
    rng = np.random.default_rng(7)
    first, second = (rng.random(60) < 0.7).astype(int), (rng.random(60) < 0.5).astype(int)

    def mean(counts):
        return counts[:, 1] / counts.sum(axis=1)

    found = paired_permutation(first, second, mean)
    assert found.p_value == pytest.approx(sign_flip(first, second).p_value, abs=0.02)
    assert paired_permutation(first, first, mean).p_value == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
