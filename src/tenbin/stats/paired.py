"""Tests of two systems on the same examples, and the correction for many of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tenbin.stats.bootstrap import (
    NUM_RESAMPLES,
    Codes,
    Floats,
    Resampler,
    Statistic,
    bootstrap,
    group_codes,
)
from tenbin.stats.results import TestResult, Undefined
from tenbin.types import Estimate

MAX_ENUMERATED = 20
"""Differences whose 2^n sign patterns are all looked at when they have no common unit."""
MAX_STEPS = 200_000
UNITS_PER_POINT = (1, 2, 3, 4, 5, 6, 8, 10, 12, 20, 24, 60, 100, 1000)
TOLERANCE = 1e-9


def mcnemar(only_first: int, only_second: int, *, n: int | None = None) -> TestResult:
    """Exact McNemar test for right/wrong scores: b examples only the first got right, c only the second.

    p = min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2); p = 1 where b + c = 0 (McNemar 1947).
    b = 8, c = 1: 2 (1 + 9) / 512 = 0.0391.
    """
    discordant = only_first + only_second
    p_value = min(1.0, 2 * float(stats.binom.cdf(min(only_first, only_second), discordant, 0.5)))
    total = discordant if n is None else n
    difference = (only_first - only_second) / total if total else 0.0
    return TestResult(p_value=p_value, difference=difference, n=total, method="exact McNemar")


def sign_flip(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    seed: int | np.random.Generator = 0,
    num_resamples: int = 20_000,
) -> TestResult | Undefined:
    """Paired permutation test of scores with partial credit: if the systems do not differ, every
    difference might as well have the other sign (Fisher 1935).

    p = share of the sign patterns with |Σ ± d_i| >= |Σ d_i|. Exact by dynamic programming where the
    differences are multiples of a common unit (0, 0.5, 1; grades; hundredths), exact by enumeration up
    to 20 non-zero differences, else Monte Carlo with (b + 1)/(m + 1) (Phipson and Smyth 2010). With
    groups the sign is flipped for a whole group at once.
    """
    differences = paired_differences(first, second)
    n = differences.size
    if n == 0:
        return Undefined("no examples")
    mean = float(differences.mean())
    if groups is not None:
        differences = np.bincount(group_codes(groups, n), weights=differences).astype(np.float64)
    units = differences.size
    nonzero = np.abs(differences[np.abs(differences) > TOLERANCE])
    observed = abs(float(differences.sum()))
    if nonzero.size == 0:
        return TestResult(p_value=1.0, difference=mean, n=units, method="sign-flip permutation, exact")
    steps = _as_steps(nonzero)
    if steps is not None:
        p_value, how = _sign_flip_by_steps(steps, round(observed * steps.sum() / nonzero.sum())), "exact"
    elif nonzero.size <= MAX_ENUMERATED:
        p_value, how = _sign_flip_enumerated(nonzero, observed), "exact"
    else:
        p_value = _sign_flip_drawn(nonzero, observed, np.random.default_rng(seed), num_resamples)
        how = f"{num_resamples} drawn"
    return TestResult(p_value=p_value, difference=mean, n=units, method=f"sign-flip permutation, {how}")


def paired_differences(first: ArrayLike, second: ArrayLike) -> Floats:
    """First minus second, (n,).

    Raises:
        ValueError: if they do not have the same length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired scores of {a.size} and {b.size} examples")
    return a - b


def _as_steps(magnitudes: Floats) -> NDArray[np.int64] | None:
    """The magnitudes (one or more, all above 0) as whole numbers of a common unit, or None."""
    for per_point in UNITS_PER_POINT:
        scaled = magnitudes * per_point
        if scaled.sum() > MAX_STEPS:
            return None
        whole = np.round(scaled)
        if whole.min() >= 1 and np.all(np.abs(scaled - whole) < 1e-7):
            return whole.astype(np.int64)
    return None


def _sign_flip_by_steps(steps: NDArray[np.int64], observed: int) -> float:
    """P(|Σ ± step| >= observed), from the distribution of the sum of the positive ones.

    Equal steps are taken together: of c equal ones Binomial(c, 1/2) are positive.
    """
    total = int(steps.sum())
    distribution = np.ones(1)
    for size, count in zip(*np.unique(steps, return_counts=True), strict=True):
        kernel = np.zeros(int(size) * int(count) + 1)
        kernel[:: int(size)] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, kernel)
    signed = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(distribution[signed >= observed].sum()))


def _sign_flip_enumerated(magnitudes: Floats, observed: float) -> float:
    sums = np.zeros(1)
    for magnitude in magnitudes:
        sums = np.concatenate([sums + magnitude, sums - magnitude])
    return float(np.mean(np.abs(sums) >= observed - TOLERANCE))


def _sign_flip_drawn(
    magnitudes: Floats, observed: float, rng: np.random.Generator, num_resamples: int
) -> float:
    as_large = 0
    chunk = max(1, 4_000_000 // magnitudes.size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        signs = rng.integers(0, 2, size=(rows, magnitudes.size), dtype=np.int8)
        sums = 2 * (signs @ magnitudes) - magnitudes.sum()
        as_large += int(np.sum(np.abs(sums) >= observed - TOLERANCE))
    return (as_large + 1) / (num_resamples + 1)


def _joint(first: ArrayLike, second: ArrayLike) -> tuple[Codes, Codes, Codes]:
    """Joint code of each example, and the first and the second system's code of each joint kind."""
    a, b = np.asarray(first, dtype=np.intp), np.asarray(second, dtype=np.intp)
    if a.shape != b.shape:
        raise ValueError(f"paired answers to {a.size} and {b.size} examples")
    width = int(b.max()) + 1 if b.size else 1
    kinds, codes = np.unique(a * width + b, return_inverse=True)
    return codes.reshape(-1), kinds // width, kinds % width


def _spread(counts: Floats, kinds: Codes, num_kinds: int) -> Floats:
    """Counts of one system's kinds (B, num_kinds) from counts of joint kinds (B, U)."""
    spread = np.zeros((kinds.size, num_kinds))
    spread[np.arange(kinds.size), kinds] = 1.0
    return np.asarray(counts @ spread)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    second_statistic: Statistic | None = None,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate | Undefined:
    """Interval of statistic(first) - statistic(second) on the same examples, resampled together (BCa).

    `first` and `second` are codes as in `tenbin.stats.bootstrap`; where the two systems are coded by
    different tables, `second_statistic` reads the second's.
    """
    codes, kinds_a, kinds_b = _joint(first, second)
    num_a, num_b = (int(k.max()) + 1 if k.size else 0 for k in (kinds_a, kinds_b))
    other = second_statistic or statistic

    def difference(counts: Floats) -> Floats:
        return statistic(_spread(counts, kinds_a, num_a)) - other(_spread(counts, kinds_b, num_b))

    return bootstrap(
        codes,
        difference,
        groups=groups,
        level=level,
        seed=seed,
        num_resamples=num_resamples,
        bounds=(-np.inf, np.inf),
    )


def paired_permutation(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    seed: int | np.random.Generator = 0,
    num_resamples: int = 9_999,
) -> TestResult | Undefined:
    """Permutation test of any metric of two systems coded by one table: swap the two answers of an
    example with probability 1/2 and see how often the metric differs as much (Yeh, COLING 2000).

    Macro F1 and MCC have no score of one example, so that sign_flip cannot test them. Monte Carlo,
    p = (b + 1)/(m + 1).
    """
    codes, kinds_a, kinds_b = _joint(first, second)
    if codes.size == 0:
        return Undefined("no examples")
    num_kinds = int(max(kinds_a.max(), kinds_b.max())) + 1
    counts = Resampler(codes).observed()
    value = statistic(_spread(counts, kinds_a, num_kinds)) - statistic(_spread(counts, kinds_b, num_kinds))
    if np.isnan(value[0]):
        return Undefined("the statistic is undefined for one of the systems")
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(counts[0].astype(np.int64), 0.5, size=(num_resamples, counts.shape[1]))
    swapped = drawn.astype(np.float64)
    kept = counts - swapped
    a = np.add(_spread(kept, kinds_a, num_kinds), _spread(swapped, kinds_b, num_kinds))
    b = np.add(_spread(kept, kinds_b, num_kinds), _spread(swapped, kinds_a, num_kinds))
    differences = np.abs(statistic(a) - statistic(b))
    # An undefined difference counts as large: it can only make the test more careful.
    as_large = int(np.sum(~(differences < abs(value[0]) - TOLERANCE)))
    return TestResult(
        p_value=(as_large + 1) / (num_resamples + 1),
        difference=float(value[0]),
        n=codes.size,
        method=f"paired permutation, {num_resamples} drawn",
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the given order: with k comparisons, reject where the adjusted p <= alpha.

    p*_(i) = max_{j <= i} min(1, (k - j + 1) p_(j)) for sorted p (Holm, Scand. J. Statist. 6, 1979).
    0.01, 0.04, 0.03 becomes 0.03, 0.06, 0.06.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
