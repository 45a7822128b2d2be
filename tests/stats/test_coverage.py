"""A quick version of bench/coverage.py: intervals hold the truth, tests do not reject it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location(
    "coverage_bench", Path(__file__).parents[2] / "bench" / "coverage.py"
)
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(bench.DRAWS))
@pytest.mark.parametrize("n", [13, 50, 500])
def test_intervals_cover(name, n):
    rng = np.random.default_rng(0)
    shares = [bench.coverage(name, n, mean, 400, rng) for mean in bench.TRUE_SCORES]
    # 3,600 intervals: the standard error of their share is 0.4 points.
    assert 0.92 < np.mean(shares) < 0.98


@pytest.mark.parametrize("n", [13, 50])
@pytest.mark.parametrize("name", ["right/wrong", "0/.5/1"])
def test_tests_keep_their_size(name, n):
    rng = np.random.default_rng(1)
    rejected = np.mean([bench.p_values(name, n, rng) <= 0.05 for _ in range(1000)])
    assert rejected <= 0.05 + 3 * 0.007
