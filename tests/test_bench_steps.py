"""Rates of steps: medians after the warm-up, and operations counted by hand."""

import pytest
from tests.models.tiny import CONFIGS

from tenbin.bench_steps import WARM_UP, StepTimes, mean_context
from tenbin.models.shape import ModelShape

SHAPE = ModelShape.read({"model_type": "llama", **CONFIGS["llama"]})


def steps(*seconds, tokens=100, targets=10, examples=4):
    times = StepTimes()
    for s in seconds:
        times.add(s, tokens=tokens, targets=targets, examples=examples)
    return times


def test_the_warm_up_is_not_counted():
    slow_start = steps(9.0, 9.0, 1.0, 2.0, 4.0)
    assert slow_start.num_counted == 3
    found = slow_start.rates(SHAPE, context=1.0, matrix_rate=1e9)
    assert (found["tokens_per_s"], found["examples_per_s"], found["step_s"]) == (50, 2.0, 2.0)


def test_rates_are_medians_of_rates_not_of_times():
    times = steps(1.0, 1.0)
    for seconds, tokens in ((1.0, 100), (10.0, 1000), (1.0, 300)):
        times.add(seconds, tokens=tokens, targets=1, examples=1)
    assert times.rates(SHAPE, context=1.0, matrix_rate=1e9)["tokens_per_s"] == 100


@pytest.mark.parametrize("count", range(WARM_UP + 1))
def test_without_a_counted_step_there_is_no_figure(count):
    found = steps(*[1.0] * count).rates(SHAPE, context=1.0, matrix_rate=1e9)
    assert set(found.values()) == {None}
    assert set(found) == {"tokens_per_s", "examples_per_s", "step_s", "mfu"}


def test_mfu_counts_four_operations_a_weight_and_the_head_for_targets_only():
    # Two blocks: q and o 32 x 32, k and v 16 x 32, gate, up and down 48 x 32; head 97 x 32 for a tenth.
    weights = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32) + 0.1 * 97 * 32
    attention = 3 * 2 * 4 * 32 * 7  # forward and twice back, two blocks, context 7
    expected = 100 * (4 * weights + attention) / 0.5 / 1e9
    found = steps(1.0, 1.0, 0.5).rates(SHAPE, context=7.0, matrix_rate=1e9)
    assert found["mfu"] == pytest.approx(expected, abs=5e-4)
    assert expected > 0.01


def test_the_mean_context_of_causal_texts():
    assert mean_context([3]) == 2  # 1, 2, 3
    assert mean_context([1, 3]) == pytest.approx(7 / 4)
