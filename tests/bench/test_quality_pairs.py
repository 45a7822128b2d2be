"""Pairs of runs: which are compared, what the ratio's interval covers, and how it is told."""

import numpy as np
import pytest
from bench.fp8_quality import Result

from bench import quality_pairs


def result(base="bf16", order="grouped", seed=0, loss_on="all", scale=1.0, score=0.88):
    rng = np.random.default_rng(7)
    sums = rng.gamma(20, 5, 400)  # the same examples in every run
    line = {
        "model": "m",
        "data": "watchers",
        "steps": 200,
        "batch_size": 32,
        "loss_on": loss_on,
        "base": base,
    }
    line |= {"order": order, "seed": seed, "untrained_loss": 4.0 * scale, "metric": "accuracy"}
    line |= {"score": score, "interval": [0.8, 0.95]}
    noise = 1 + 0.01 * np.random.default_rng(1).standard_normal(400) * (scale != 1)
    return Result(line, list(sums[:20] * scale), list(sums * scale * noise), [str(i) for i in range(400)])


def test_runs_are_paired_where_one_thing_differs():
    runs = [
        result(base, order, seed)
        for seed in (0, 1)
        for order in ("grouped", "shuffled")
        for base in ("bf16", "fp8")
    ]
    told = [
        (differs, first.line["base"], first.line["order"], first.line["seed"], other.line[differs])
        for differs, first, other in quality_pairs.pairs(runs)
    ]
    assert told == [
        ("base", "bf16", "grouped", 0, "fp8"),
        ("base", "bf16", "shuffled", 0, "fp8"),
        ("base", "bf16", "grouped", 1, "fp8"),
        ("base", "bf16", "shuffled", 1, "fp8"),
        ("order", "bf16", "grouped", 0, "shuffled"),
        ("order", "fp8", "grouped", 0, "shuffled"),
        ("order", "bf16", "grouped", 1, "shuffled"),
        ("order", "fp8", "grouped", 1, "shuffled"),
        ("seed", "bf16", "grouped", 0, 1),
        ("seed", "bf16", "shuffled", 0, 1),
    ]


def test_the_interval_is_of_the_pairs_not_of_the_examples():
    line = quality_pairs.pair("base", result(), result("fp8", scale=1.005))
    _, low, high = line["held_out_ratio"]
    assert low < 1.005 < high
    assert high - low < 0.003  # each sum by itself is known to 2 % only
    assert line["loss_ratio"][0] == pytest.approx(1.005)
    assert quality_pairs.pair("seed", result(), result(seed=1))["loss_ratio"] is None  # other batches


def test_one_step_or_one_group_has_a_ratio_and_no_interval():
    assert quality_pairs.ratio([2.0], [3.0]) == [1.5, None, None]
    assert quality_pairs.ratio([2.0, 2.0], [3.0, 5.0], ["a", "a"]) == [2.0, None, None]
    assert quality_pairs.said("loss", 1.5, None, None) == "loss +50.00%"


@pytest.mark.parametrize(("score", "word"), [(0.9, "inside"), (0.7, "OUTSIDE")])
def test_it_is_said_whether_the_score_lies_in_the_interval(score, word):
    line = quality_pairs.pair("base", result(), result("fp8", scale=1.05, score=score))
    said = quality_pairs.told(line)
    assert said.startswith(
        "base fp8 against bf16 (loss on all, grouped, seed 0): loss of the last steps +5.00% (+5.00%"
    )
    assert said.endswith(f"accuracy {score:.4f} against 0.8800, {word} 0.8000 to 0.9500")
    (summary,) = quality_pairs.summaries([line])
    assert summary["inside"] == (word == "inside")
    assert "mean of 1: loss of the last steps +5.00%" in quality_pairs.summed_up(summary)


def test_summaries_are_by_kind():
    lines = [quality_pairs.pair("base", result(), result("fp8", scale=scale)) for scale in (1.0, 1.02)] + [
        quality_pairs.pair("base", result(loss_on="response"), result("fp8", loss_on="response"))
    ]
    every, answers = quality_pairs.summaries(lines)
    assert (every["pairs"], answers["pairs"]) == (2, 1)
    assert every["loss_ratio"] == pytest.approx([1.01, 1.0, 1.02])
