"""Comparison: two systems on the same examples, tested pair by pair and corrected over all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tenbin.points import POINTS, weight_of
from tenbin.report.evidence import System
from tenbin.stats import (
    TestResult,
    Undefined,
    bootstrap,
    examples_needed,
    examples_needed_right_wrong,
    holm,
    mcnemar,
    mean_of_values,
    sign_flip,
)
from tenbin.types import Estimate

NUM_RESAMPLES = 9_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two systems on the examples that both have a score for."""

    a: System
    b: System
    n: int
    """Examples with a score of both."""
    difference: Estimate | None
    """Mean score of a minus that of b; None where the rows of one are not kept."""
    only_a: int = 0
    """Examples where a scores higher."""
    only_b: int = 0
    p_value: float | None = None
    p_adjusted: float | None = None
    """After Holm's correction over all pairs of the study."""
    method: str = ""
    needed: int | None = None
    """Examples that would show this difference with a power of 80 % in one uncorrected test; None where no
    number would."""
    reason: str | None = None
    """Why there is no test."""

    def clear(self, level: float) -> bool:
        """Whether the difference is shown, at the study's level."""
        return self.p_adjusted is not None and self.p_adjusted <= 1 - level + 1e-12

    def better(self, system: System, level: float) -> bool:
        """Whether `system`, one of the two, is shown to be the better one."""
        if self.difference is None or not self.clear(level):
            return False
        return (self.difference.value > 0) == (system.key == self.a.key)


def compare_all(systems: Sequence[System], metric: str, level: float) -> tuple[Comparison, ...]:
    """Every pair of systems, with p values that Holm's correction has made safe to read together.

    All pairs are in the family, not only those with the best: which one is best is itself read from the
    data, and a correction over all pairs holds whichever it turns out to be.
    """
    found = [compare(a, b, metric, level) for a, b in combinations(systems, 2)]
    tested = [c for c in found if c.p_value is not None]
    adjusted = dict(
        zip(map(id, tested), holm([c.p_value for c in tested if c.p_value is not None]), strict=True)
    )
    return tuple(replace(c, p_adjusted=adjusted.get(id(c))) for c in found)


def compare(a: System, b: System, metric: str, level: float) -> Comparison:
    """Test two systems: exact McNemar where scores are 0 or 1 and examples independent, else sign flips."""
    first, second, groups = paired_scores(a, b, metric)
    if not first:
        reason = "the scores of single examples are not kept"
        return Comparison(a=a, b=b, n=0, difference=None, reason=reason)
    differences = np.asarray(first) - np.asarray(second)
    only_a, only_b = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    right_wrong = set(first) | set(second) <= {0.0, 1.0}
    test: TestResult | Undefined
    if right_wrong and groups is None:
        test = mcnemar(only_a, only_b, n=len(first))
    else:
        test = sign_flip(first, second, groups=groups, num_resamples=NUM_RESAMPLES)
    difference = _difference(differences.tolist(), groups, level)
    if isinstance(test, Undefined) or difference is None:
        reason = test.reason if isinstance(test, Undefined) else "undefined"
        return Comparison(a=a, b=b, n=len(first), difference=None, reason=reason)
    return Comparison(
        a=a,
        b=b,
        n=len(first),
        difference=difference,
        only_a=only_a,
        only_b=only_b,
        p_value=test.p_value,
        method=test.method,
        needed=_needed(differences.tolist(), right_wrong and groups is None, groups, level),
    )


def paired_scores(a: System, b: System, metric: str) -> tuple[list[float], list[float], list[str] | None]:
    """Scores of both on the examples that both have one for, and their groups where groups repeat.

    Points of a bank whose questions have different points are scaled by them, to a mean weight of 1.
    """
    theirs = {row.id: row.scores.get(metric) for row in b.rows}
    first, second, groups, weights = [], [], [], []
    for row in a.rows:
        mine, other = row.scores.get(metric), theirs.get(row.id)
        if mine is not None and other is not None:
            first.append(float(mine))
            second.append(float(other))
            weights.append(weight_of(row))
            groups.append(row.group if row.group is not None else f"\0{row.id}")
    if metric == POINTS and len(set(weights)) > 1:
        mean = sum(weights) / len(weights)
        first = [score * weight / mean for score, weight in zip(first, weights, strict=True)]
        second = [score * weight / mean for score, weight in zip(second, weights, strict=True)]
    return first, second, groups if len(set(groups)) < len(groups) else None


def _difference(differences: list[float], groups: list[str] | None, level: float) -> Estimate | None:
    codes, mean = mean_of_values(differences)
    found = bootstrap(codes, mean, groups=groups, level=level, bounds=(-1.0, 1.0))
    if isinstance(found, Undefined):
        value = float(np.mean(differences))
        return Estimate(value, -1.0, 1.0, level, len(differences), f"no interval: {found.reason}")
    return found


def _needed(
    differences: list[float], right_wrong: bool, groups: list[str] | None, level: float
) -> int | None:
    """Examples for a power of 80 %; None where no number would do."""
    values = np.asarray(differences)
    mean = float(values.mean())
    needed: int | Undefined
    if right_wrong:
        needed = examples_needed_right_wrong(mean, discordance=float(np.mean(values != 0)), alpha=1 - level)
    elif len(values) < 2:
        return None
    else:
        deviation = float(values.std(ddof=1))
        if groups is not None:
            deviation = _clustered_deviation(values - mean, groups)
        needed = examples_needed(mean, deviation=deviation, alpha=1 - level)
    return None if isinstance(needed, Undefined) else needed


def _clustered_deviation(
    centred: np.ndarray[tuple[int, ...], np.dtype[np.float64]], groups: list[str]
) -> float:
    """√(n V) with V the cluster-robust variance of the mean: what one example is worth inside its group."""
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = np.bincount(codes.reshape(-1), weights=centred)
    units = sums.size
    return float(np.sqrt((sums**2).sum() * units / max(units - 1, 1) / centred.size))
