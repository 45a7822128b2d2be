import numpy as np
import pytest

from tenbin.stats import Undefined, examples_needed, examples_needed_right_wrong, mcnemar, smallest_difference


def test_by_hand():
    assert examples_needed(0.05, deviation=0.4) == 505
    assert examples_needed_right_wrong(0.05, discordance=0.2) == 626
    assert smallest_difference(505, deviation=0.4) == pytest.approx(0.05, abs=1e-3)


def test_the_power_is_reached():
    n = examples_needed_right_wrong(0.1, discordance=0.3)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [0.2, 0.1, 0.7], size=1000)
    found = np.mean([mcnemar(int(b), int(c)).p_value <= 0.05 for b, c, _ in draws])
    assert 0.74 < found < 0.84  # the exact test is a little careful


def test_undefined():
    for found in (
        examples_needed(0, deviation=0.4),
        examples_needed(0.1, deviation=0),
        examples_needed_right_wrong(0.3, discordance=0.2),
        smallest_difference(1, deviation=0.4),
    ):
        assert isinstance(found, Undefined)
