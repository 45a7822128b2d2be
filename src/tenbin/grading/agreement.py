"""How far raters agree, with intervals, and the answers on which they do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tenbin.config_grading import GradingConfig
from tenbin.grading.items import Item
from tenbin.grading.settle import Settled, grades_by_answer, settle
from tenbin.grading.store import Grade
from tenbin.stats import Agreement, Undefined, bootstrap_by_index, cohen_kappa, krippendorff_alpha
from tenbin.types import Estimate

Shares = Mapping[str, float]
"""Rater -> grade as a share of the highest, for one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """An agreement beyond chance with its interval, or why one of them does not exist."""

    value: float | None
    interval: Estimate | None
    reason: str | None
    """Why there is no value, or no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Two raters on the answers that both have graded."""

    first: str
    second: str
    num_items: int
    num_equal: int
    kappa: Coefficient
    """Cohen's with quadratic weights: half a point apart counts a quarter of a whole one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One answer to which raters gave different grades."""

    item: Item
    grades: Mapping[str, Grade]
    """Rater -> the grade given."""
    spread: float
    """Highest less lowest share."""
    settled: Settled
    """What it counts as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterAgreement:
    """All raters of a study."""

    raters: tuple[str, ...]
    num_graded: Mapping[str, int]
    """Rater -> answers graded."""
    num_items: int
    """Answers graded by two raters or more."""
    alpha: Coefficient
    """Krippendorff's, interval scale: any number of raters, gaps allowed."""
    pairs: tuple[PairAgreement, ...]
    disagreements: tuple[Disagreement, ...]
    """The widest apart first."""


def rater_agreement(
    items: Sequence[Item], grades: Sequence[Grade], settings: GradingConfig, *, level: float = 0.95
) -> RaterAgreement:
    """Agreement of the people who graded these answers; grades of other answers are left alone.

    Intervals: percentile bootstrap over whole questions, since the answers to one question are alike.

    Args:
        items: the answers of the study, in its order.
        settings: the scale, and how a disagreement counts.
        level: of the intervals.
    """
    given = grades_by_answer(grades)
    people = [
        {g.grader: g for g in given.get(item.key, ()) if g.kind == "person" and g.share is not None}
        for item in items
    ]
    raters = tuple(sorted({rater for found in people for rater in found}))
    table = [(item.question, _shares(found)) for item, found in zip(items, people, strict=True)]
    several = [(question, row) for question, row in table if len(row) > 1]
    scale = sorted({grade / max(settings.scale) for grade in settings.scale} | _values(table))
    return RaterAgreement(
        raters=raters,
        num_graded={rater: sum(rater in row for _, row in table) for rater in raters},
        num_items=len(several),
        alpha=_coefficient(several, lambda rows: _alpha(rows, raters), level),
        pairs=tuple(_pair(a, b, table, scale, level) for a, b in combinations(raters, 2)),
        disagreements=_disagreements(items, people, settings),
    )


def _shares(grades: Mapping[str, Grade]) -> Shares:
    return {rater: share for rater, grade in grades.items() if (share := grade.share) is not None}


def _values(table: Sequence[tuple[str, Shares]]) -> set[float]:
    return {share for _, row in table for share in row.values()}


def _pair(
    first: str, second: str, table: Sequence[tuple[str, Shares]], scale: Sequence[float], level: float
) -> PairAgreement:
    both = [(question, row) for question, row in table if first in row and second in row]

    def kappa(rows: Sequence[Shares]) -> Agreement | Undefined:
        a, b = [row[first] for row in rows], [row[second] for row in rows]
        return cohen_kappa(a, b, scale, weights="quadratic")

    return PairAgreement(
        first=first,
        second=second,
        num_items=len(both),
        num_equal=sum(row[first] == row[second] for _, row in both),
        kappa=_coefficient(both, kappa, level),
    )


def _alpha(rows: Sequence[Shares], raters: Sequence[str]) -> Agreement | Undefined:
    return krippendorff_alpha([[row.get(rater) for row in rows] for rater in raters], scale="interval")


def _coefficient(
    rated: Sequence[tuple[str, Shares]],
    compute: Callable[[Sequence[Shares]], Agreement | Undefined],
    level: float,
) -> Coefficient:
    """The coefficient over all answers, and its interval by drawing whole questions.

    Args:
        rated: (question, shares) of every answer that counts.
    """
    rows = [row for _, row in rated]
    whole = compute(rows) if rows else Undefined("no answer is graded by two raters")
    if isinstance(whole, Undefined):
        return Coefficient(value=None, interval=None, reason=whole.reason)

    def drawn(places: NDArray[np.intp]) -> float | None:
        found = compute([rows[place] for place in places])
        return None if isinstance(found, Undefined) else found.value

    questions = [question for question, _ in rated]
    found = bootstrap_by_index(len(rows), drawn, groups=questions, level=level, seed=0)
    if isinstance(found, Undefined):
        return Coefficient(value=whole.value, interval=None, reason=f"no interval: {found.reason}")
    if found.low == found.high:
        return Coefficient(value=whole.value, interval=None, reason="no interval: nothing varies")
    return Coefficient(value=whole.value, interval=found, reason=None)


def _disagreements(
    items: Sequence[Item], people: Sequence[Mapping[str, Grade]], settings: GradingConfig
) -> tuple[Disagreement, ...]:
    found = []
    for item, grades in zip(items, people, strict=True):
        shares = sorted(_shares(grades).values())
        if len(set(shares)) > 1:
            found.append(
                Disagreement(
                    item=item,
                    grades=grades,
                    spread=shares[-1] - shares[0],
                    settled=settle(item.fields["grade"], None, tuple(grades.values()), settings),
                )
            )
    return tuple(sorted(found, key=lambda disagreement: -disagreement.spread))
