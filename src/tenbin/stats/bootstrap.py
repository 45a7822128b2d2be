"""Bootstrap of any statistic that depends on how often each kind of example occurs.

Two thousand resamples of 5,650 rows would call an ordinary metric two thousand times. But accuracy,
macro F1, MCC and means need no rows, only counts: how many examples of each kind (reference, answer)
there are. So a resample is one multinomial draw of counts, and a statistic takes all draws at once:

    codes      (n,) int: the kind of each example, 0 ... U-1
    statistic  (B, U) counts -> (B,) values; NaN = undefined for those counts

`tenbin.tasks.metrics.resample_table` gives both for a metric; `mean_of_values` for a mean.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tenbin.stats.results import Undefined
from tenbin.types import Estimate

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]

NUM_RESAMPLES = 2000
MAX_UNDEFINED = 0.05
CHUNK = 4_000_000
"""Counts held at once: 32 MB."""


def mean_of_values(values: ArrayLike) -> tuple[Codes, Statistic]:
    """Codes and statistic of a plain mean of scores (n,)."""
    kinds, codes = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)

    def mean(counts: Floats) -> Floats:
        return np.asarray(counts @ kinds / counts.sum(axis=1))

    return codes.reshape(-1), mean


def group_codes(groups: Sequence[str], n: int) -> Codes:
    """0 ... G-1 for each example.

    Raises:
        ValueError: if there is not one group for each of the n examples.
    """
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} examples")
    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1].reshape(-1)


class Resampler:
    """Draws counts of kinds: examples, or whole groups, with replacement."""

    def __init__(self, codes: ArrayLike, groups: Sequence[str] | None = None) -> None:
        kinds = np.asarray(codes, dtype=np.intp)
        self.n = kinds.size
        self.num_kinds = int(kinds.max()) + 1 if self.n else 0
        if groups is None:
            self.members: Floats | None = None
            self.multiplicity = np.bincount(kinds, minlength=self.num_kinds).astype(np.float64)
        else:
            units = group_codes(groups, self.n)
            table = np.zeros((int(units.max()) + 1 if self.n else 0, self.num_kinds))
            np.add.at(table, (units, kinds), 1.0)
            self.members, sizes = np.unique(table, axis=0, return_counts=True)
            self.multiplicity = sizes.astype(np.float64)
        self.num_units = int(self.multiplicity.sum())

    def observed(self) -> Floats:
        """The counts of the data themselves, (1, U)."""
        return self._counts(self.multiplicity[None])

    def _counts(self, drawn: Floats) -> Floats:
        """Counts of kinds (B, U) from how often each distinct unit was drawn (B, units)."""
        return drawn if self.members is None else drawn @ self.members

    def draws(self, num_resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
        """Resampled counts, in chunks of (b, U) that add up to `num_resamples` rows."""
        probabilities = self.multiplicity / self.num_units
        size = max(1, CHUNK // max(self.multiplicity.size, self.num_kinds))
        for start in range(0, num_resamples, size):
            rows = min(size, num_resamples - start)
            yield self._counts(rng.multinomial(self.num_units, probabilities, size=rows).astype(np.float64))

    def without_one(self) -> Iterator[tuple[Floats, Floats]]:
        """Counts with one unit left out (b, U) and how many units each row stands for (b,)."""
        distinct = self.multiplicity.size
        size = max(1, CHUNK // max(distinct, self.num_kinds))
        for start in range(0, distinct, size):
            rows = np.arange(start, min(start + size, distinct))
            left = np.repeat(self.multiplicity[None], rows.size, axis=0)
            left[np.arange(rows.size), rows] -= 1
            yield self._counts(left), self.multiplicity[rows]


def bootstrap(
    codes: ArrayLike,
    statistic: Statistic,
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    num_resamples: int = NUM_RESAMPLES,
    method: str = "bca",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate | Undefined:
    """Interval of a statistic by resampling examples, or whole groups.

    method "bca" (bias-corrected and accelerated, Efron, JASA 82, 1987; the default) or "percentile".
    A resample for which the statistic is undefined is left out and said in `method`; with more than 5 %
    of them the interval is Undefined. Where the statistic stands at one of its `bounds` in every
    resample (a perfect score), the bootstrap cannot see how often the unseen would occur: the bound on
    the other side is then Wilson's for n of n, scaled to `bounds`.
    """
    assert method in ("bca", "percentile"), method
    sampler = Resampler(codes, groups)
    if sampler.num_units < 2:
        return Undefined("a bootstrap needs two examples (or groups) or more")
    value = float(statistic(sampler.observed())[0])
    if np.isnan(value):
        return Undefined("the statistic is undefined for these examples")
    rng = np.random.default_rng(seed)
    samples = np.concatenate([statistic(counts) for counts in sampler.draws(num_resamples, rng)])
    if np.all(samples == value) and value in bounds:
        low, high = _bound_interval(value, sampler.num_units, level, bounds)
        return Estimate(value, low, high, level, sampler.n, "Wilson (no variation to resample)")
    if method == "bca":
        pairs = [(statistic(counts), times) for counts, times in sampler.without_one()]
        jackknife = (np.concatenate([v for v, _ in pairs]), np.concatenate([t for _, t in pairs]))
    else:
        jackknife = None
    units = f", {sampler.num_units} groups" if groups is not None else ""
    return interval_of_samples(samples, value, n=sampler.n, level=level, jackknife=jackknife, note=units)


def _bound_interval(value: float, n: int, level: float, bounds: tuple[float, float]) -> tuple[float, float]:
    z = float(stats.norm.ppf((1 + level) / 2))
    reach = (bounds[1] - bounds[0]) * z * z / (n + z * z)  # Wilson's far bound for n of n
    return (value - reach, value) if value == bounds[1] else (value, value + reach)


def interval_of_samples(
    samples: Floats,
    value: float,
    *,
    n: int,
    level: float,
    jackknife: tuple[Floats, Floats] | None,
    note: str = "",
) -> Estimate | Undefined:
    """Percentile or (with leave-one-out values and their multiplicities) BCa interval of resampled values."""
    kept = samples[~np.isnan(samples)]
    num_undefined = samples.size - kept.size
    if num_undefined > MAX_UNDEFINED * samples.size:
        return Undefined(f"undefined in {num_undefined} of {samples.size} resamples")
    if num_undefined:
        note += f", {num_undefined} undefined"
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    name = "percentile"
    if jackknife is not None:
        # Ties with the observed value count half: scores are discrete.
        below = (np.sum(kept < value) + 0.5 * np.sum(kept == value)) / kept.size
        acceleration = _acceleration(*jackknife)
        if 0 < below < 1 and acceleration is not None:
            bias = stats.norm.ppf(below)
            shifted = bias + stats.norm.ppf(tails)
            tails = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
            name = "BCa"
    low, high = np.quantile(kept, tails)
    method = f"{name} bootstrap, {samples.size} resamples{note}"
    return Estimate(value, float(low), float(high), level, n, method)


def _acceleration(left_out: Floats, times: Floats) -> float | None:
    """Efron's a = Σ d³ / 6 (Σ d²)^1.5 of the leave-one-out values; None where one of them is undefined."""
    if np.isnan(left_out).any():
        return None
    deviations = np.average(left_out, weights=times) - left_out
    squares = float(times @ deviations**2)
    return float(times @ deviations**3) / (6 * squares**1.5) if squares > 0 else 0.0


def bootstrap_by_index(
    n: int,
    statistic: Callable[[Codes], float | None],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate | Undefined:
    """Percentile interval of a statistic that is only known as a function of rows: the slow way.

    `statistic` takes row numbers (with repeats) and is called `num_resamples` + 1 times.
    """
    units = np.arange(n) if groups is None else group_codes(groups, n)
    order = np.argsort(units, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(units[order])) + 1) if n else []
    if len(members) < 2:
        return Undefined("a bootstrap needs two examples (or groups) or more")
    value = statistic(np.arange(n))
    if value is None:
        return Undefined("the statistic is undefined for these examples")
    rng = np.random.default_rng(seed)
    samples = np.full(num_resamples, np.nan)
    for number in range(num_resamples):
        drawn = rng.integers(len(members), size=len(members))
        result = statistic(np.concatenate([members[unit] for unit in drawn]))
        samples[number] = np.nan if result is None else result
    note = f", {len(members)} groups" if groups is not None else ""
    return interval_of_samples(samples, value, n=n, level=level, jackknife=None, note=note)
