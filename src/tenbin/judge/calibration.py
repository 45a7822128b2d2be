"""Calibration: a judge's grades against those of people on the same answers, and whether to lean on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_low
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenbin.grading.items import Item
from tenbin.grading.settle import grades_by_answer
from tenbin.grading.store import Grade
from tenbin.stats import Agreement, Undefined, bootstrap, cohen_kappa, wilson
from tenbin.types import Estimate

MIN_HUMAN, MIN_KAPPA = 20, 0.4
State = Literal["calibrated", "too few", "too low", "undefined"]
"""calibrated: people graded enough of the answers and the interval of kappa lies high enough; too few: they
did not; too low: it does not; undefined: kappa or its interval does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One judge against people."""

    grader: str
    num_judged: int
    """Judgements made, repeats and all."""
    num_unparsed: int
    """Of them without a grade: no verdict could be read."""
    num_failed: int
    """Of them without a grade: no completion was got."""
    num_repeated: int
    """Answers with two grades or more from this judge."""
    num_steady: int
    """Of those, how many got the same one every time."""
    num_items: int
    """Answers graded by people and by the judge."""
    scale: tuple[float, ...]
    """Shares of full points, from low to high."""
    agreement: Estimate | None
    """Share of answers with the same grade."""
    kappa: float | None
    """Cohen's with quadratic weights."""
    interval: Estimate | None
    """Of kappa, by drawing whole questions."""
    bias: float | None
    """Mean of judge minus people, in shares of full points."""
    confusion: Mapping[tuple[float, float], int]
    """(people, judge) -> answers."""
    state: State
    reason: str
    """The state in words, with its figures."""


def calibrate(
    grader: str,
    items: Sequence[Item],
    grades: Sequence[Grade],
    *,
    min_human: int = MIN_HUMAN,
    min_kappa: float = MIN_KAPPA,
    level: float = 0.95,
) -> Calibration:
    """Compare a judge with people, answer by answer.

    Where there are several people, or repeats of the judge, the lower median of their grades stands for them:
    it is on the scale. Intervals are drawn by whole questions, since answers to one question are alike.

    Args:
        grader: the judge as in the store.
        items: the answers of the study.
        grades: the whole store.
        min_human: answers that both must have graded.
        min_kappa: least lower end of kappa's interval.
    """
    given = grades_by_answer(grades)
    judged = [
        g for item in items for g in given.get(item.key, ()) if g.kind == "judge" and g.grader == grader
    ]
    both: list[tuple[str, float, float]] = []
    repeated = steady = 0
    for item in items:
        mine = _shares(given.get(item.key, ()), "judge", grader)
        people = _shares(given.get(item.key, ()), "person", None)
        repeated += len(mine) > 1
        steady += len(mine) > 1 and len(set(mine)) == 1
        if mine and people:
            both.append((item.question, median_low(people), median_low(mine)))
    scale = tuple(sorted({share for _, *pair in both for share in pair} | _scale(judged)))
    kappa = _kappa(both, scale)
    value = kappa.value if isinstance(kappa, Agreement) else None
    interval = Undefined("there is no kappa") if value is None else _interval(both, scale, value, level)
    agreed = wilson(sum(a == b for _, a, b in both), len(both), level=level)
    state, reason = _state(len(both), kappa, interval, min_human, min_kappa)
    return Calibration(
        grader=grader,
        num_judged=len(judged),
        num_unparsed=sum(g.grade is None and "error" not in g.details for g in judged),
        num_failed=sum(g.grade is None and "error" in g.details for g in judged),
        num_repeated=repeated,
        num_steady=steady,
        num_items=len(both),
        scale=scale,
        agreement=agreed if isinstance(agreed, Estimate) else None,
        kappa=value,
        interval=interval if isinstance(interval, Estimate) else None,
        bias=fmean(b - a for _, a, b in both) if both else None,
        confusion=_confusion(both),
        state=state,
        reason=reason,
    )


def judges_of(grades: Sequence[Grade]) -> tuple[str, ...]:
    """Every judge in a store, in the order of their first grade."""
    return tuple(dict.fromkeys(grade.grader for grade in grades if grade.kind == "judge"))


def _shares(grades: Sequence[Grade], kind: str, grader: str | None) -> list[float]:
    return [
        share
        for grade in grades
        if grade.kind == kind and (grader is None or grade.grader == grader)
        if (share := grade.share) is not None
    ]


def _scale(grades: Sequence[Grade]) -> set[float]:
    return {value / max(grade.scale) for grade in grades for value in grade.scale}


def _kappa(both: Sequence[tuple[str, float, float]], scale: Sequence[float]) -> Agreement | Undefined:
    return cohen_kappa([a for _, a, _ in both], [b for _, _, b in both], scale, weights="quadratic")


def _interval(
    both: Sequence[tuple[str, float, float]],
    scale: Sequence[float],
    value: float,
    level: float,
) -> Estimate | Undefined:
    """Of kappa, by drawing whole questions; of a judge that always agrees, Wilson's for as many questions."""
    kinds = sorted({(scale.index(a), scale.index(b)) for _, a, b in both})
    codes = [kinds.index((scale.index(a), scale.index(b))) for _, a, b in both]
    size = len(scale)
    spread = np.zeros((len(kinds), size * size))
    for kind, (a, b) in enumerate(kinds):
        spread[kind, a * size + b] = 1
    distance = np.subtract.outer(np.arange(size), np.arange(size)) ** 2

    def kappa(counts: NDArray[np.float64]) -> NDArray[np.float64]:  # (B, U) -> (B,)
        table = (counts @ spread).reshape(-1, size, size)
        table = table / table.sum(axis=(1, 2), keepdims=True)
        observed = (distance * table).sum(axis=(1, 2))
        chance = np.einsum("ij,bi,bj->b", distance, table.sum(axis=2), table.sum(axis=1))
        # One category throughout: agreement without disagreement stays 1 where all of it is 1.
        nothing = np.full(len(table), 1.0 if value == 1 else np.nan)
        return np.asarray(1 - np.divide(observed, chance, out=1 - nothing, where=chance > 0))

    groups = [question for question, _, _ in both]
    return bootstrap(
        codes, kappa, groups=groups, level=level, seed=0, method="percentile", bounds=(-1.0, 1.0)
    )


def _confusion(both: Sequence[tuple[str, float, float]]) -> dict[tuple[float, float], int]:
    counts: dict[tuple[float, float], int] = {}
    for _, people, judge in both:
        counts[people, judge] = counts.get((people, judge), 0) + 1
    return dict(sorted(counts.items()))


def _state(
    num: int,
    kappa: Agreement | Undefined,
    interval: Estimate | Undefined,
    min_human: int,
    min_kappa: float,
) -> tuple[State, str]:
    if num < min_human:
        return "too few", f"people and judge graded {num} answers both, and {min_human} are wanted"
    if isinstance(kappa, Undefined):
        return "undefined", f"kappa does not exist: {kappa.reason}"
    if isinstance(interval, Undefined):
        return "undefined", f"kappa {kappa.value:.2f} has no interval: {interval.reason}"
    found = f"kappa {kappa.value:.2f} ({interval.low:.2f} to {interval.high:.2f}) on {num} answers"
    if interval.low < min_kappa:
        return "too low", f"{found}: its lower end is below {min_kappa:g}"
    return "calibrated", found
