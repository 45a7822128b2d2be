import numpy as np
import pytest

from tenbin.stats import Undefined, estimate, mean_interval, t_interval, wilson


def test_wilson_by_hand():
    found = wilson(9, 13)
    assert (found.low, found.high) == pytest.approx((0.423693, 0.873193), abs=1e-6)
    assert found.n == 13


def test_wilson_at_the_ends():
    assert wilson(5, 5).high == 1.0
    assert wilson(0, 5).low == 0.0


def test_undefined_is_not_a_number():
    for found in (
        wilson(0, 0),
        t_interval([1.0]),
        mean_interval([]),
        mean_interval([0.5]),
        estimate([], kind="mean"),
    ):
        assert isinstance(found, Undefined)
        assert found.reason
        assert not found


def test_t_interval_by_hand():
    found = t_interval([1, 0.5, 0, 1])
    assert (found.low, found.high) == pytest.approx((-0.13674, 1.38674), abs=1e-5)


def test_the_mean_interval_stays_in_range_and_holds_the_mean():
    for scores in ([0, 0.5, 0], [1.0] * 4, [0.5] * 13, [0.1, 0.1, 1], [0, 1]):
        found = mean_interval(scores)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0


def test_scores_close_together_give_a_narrower_interval_than_right_wrong():
    narrow, wide = mean_interval([0.4, 0.6] * 25), estimate([0, 1] * 25, kind="proportion")
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_examples_of_one_group_carry_less():
    scores = [1.0] * 20 + [0.0] * 20
    groups = [str(i // 5) for i in range(40)]
    alone, grouped = estimate(scores, kind="proportion"), estimate(scores, kind="proportion", groups=groups)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert "8 groups" in grouped.method


def test_groups_of_one_are_no_groups():
    scores = [0.2, 0.9, 0.4, 0.0, 1.0, 0.3]
    alone = mean_interval(scores)
    grouped = mean_interval(scores, groups=list("abcdef"))
    assert grouped.value == alone.value
    assert grouped.low == pytest.approx(alone.low, abs=0.03)


def test_bootstrap_kind_is_seeded():
    scores = [0.0, 0.5, 1.0, 0.7, 0.2] * 8
    assert estimate(scores, kind="bootstrap", seed=3) == estimate(scores, kind="bootstrap", seed=3)
    assert estimate(scores, kind="bootstrap", seed=3) != estimate(scores, kind="bootstrap", seed=4)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        estimate([0.5], kind="proportion")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        estimate([0.5, 50.0], kind="mean")
    with pytest.raises(ValueError, match="groups"):
        estimate([0.5, 0.2], kind="mean", groups=["a"])
    assert isinstance(estimate([1, 0], kind="proportion", groups=["a", "a"]), Undefined)


def test_equal_weights_are_no_weights():
    scores = [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 1.0]
    plain, weighted = mean_interval(scores), mean_interval(scores, weights=[3.0] * 7)
    assert weighted[:3] == pytest.approx(plain[:3])
    groups = list("aabbccd")
    plain, weighted = (
        mean_interval(scores, groups=groups),
        mean_interval(scores, groups=groups, weights=[2.0] * 7),
    )
    assert weighted.value == pytest.approx(plain.value)


def test_weights_move_the_mean_and_a_few_heavy_scores_tell_less():
    scores = [1.0, 0.0, 0.5, 1.0, 0.0, 0.5] * 3
    even = mean_interval(scores)
    heavy = mean_interval(scores, weights=[10.0, 1, 1, 1, 1, 1] * 3)
    assert heavy.value == pytest.approx((10 + 0.5 + 1 + 0.5) / 15)
    assert heavy.n == 18
    assert heavy.high - heavy.low > even.high - even.low
    perfect = mean_interval([1.0] * 6, weights=[10.0, 1, 1, 1, 1, 1])
    assert perfect.low < mean_interval([1.0] * 6).low


@pytest.mark.parametrize("n", [13, 50])
def test_weighted_intervals_cover(n):
    rng = np.random.default_rng(0)
    weights = np.resize([1.0, 2.0, 3.0], n).tolist()
    held = []
    for mean in (0.2, 0.5, 0.8):
        for _ in range(300):
            scores = rng.choice([0.0, 0.5, 1.0], size=n, p=[0.8 - 0.8 * mean, 0.2, 0.8 * mean])
            truth = 0.8 * mean + 0.1
            found = mean_interval(scores.tolist(), weights=weights)
            held.append(found.low <= truth <= found.high)
    assert 0.92 < np.mean(held) < 0.985
