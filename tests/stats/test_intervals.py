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
