"""Points of a question bank: earned, possible and who graded, for all questions and for each category."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tenbin.stats import Undefined, mean_interval
from tenbin.types import EvalRow, MetricSummary, PointsPart

POINTS = "points"
"""Metric id: a row's score under it is its grade as a share of the highest."""

NOT_GRADED = "no answer is graded yet"


def points_parts(
    rows: Sequence[EvalRow], *, level: float = 0.95, by: Callable[[EvalRow], str] = lambda row: "rule"
) -> tuple[PointsPart, ...]:
    """All questions first, then each category in the order of the bank; () of rows without questions.

    Args:
        rows: a score `points` of None = not graded.
        level: of the intervals.
        by: who graded a row that has a score.
    """
    asked = [row for row in rows if row.question]
    if not asked:
        return ()
    categories = dict.fromkeys(row.question.get("category", "") for row in asked)
    parts = [_part(None, asked, level, by)]
    if len(categories) > 1 or "" not in categories:
        parts += [
            _part(name, [r for r in asked if r.question.get("category", "") == name], level, by)
            for name in categories
        ]
    return tuple(parts)


def with_points(metrics: tuple[MetricSummary, ...], parts: Sequence[PointsPart]) -> tuple[MetricSummary, ...]:
    """The metrics with the points of all questions in the place of their mean share."""
    if not parts:
        return metrics
    return tuple(
        replace(m, estimate=parts[0].estimate, reason=parts[0].reason) if m.metric == POINTS else m
        for m in metrics
    )


def weight_of(row: EvalRow) -> float:
    """Points of the row's question; 1 where it is no question of a bank."""
    return float(row.question.get("points", 1.0))


def _part(
    category: str | None, rows: Sequence[EvalRow], level: float, by: Callable[[EvalRow], str]
) -> PointsPart:
    answered = [row for row in rows if row.error is None]
    graded = [row for row in answered if row.scores.get(POINTS) is not None]
    shares = [share for row in graded if (share := row.scores.get(POINTS)) is not None]
    weights = [weight_of(row) for row in graded]
    found = (
        mean_interval(shares, groups=_groups(graded), weights=_unequal(weights), level=level)
        if graded
        else Undefined(NOT_GRADED if answered else "no answers")
    )
    return PointsPart(
        category=category,
        earned=sum(w * share for w, share in zip(weights, shares, strict=True)),
        possible=sum(weights),
        num_graded=len(graded),
        num_ungraded=len(answered) - len(graded),
        num_errors=len(rows) - len(answered),
        by=dict(Counter(by(row) for row in graded)),
        estimate=None if isinstance(found, Undefined) else found,
        reason=found.reason if isinstance(found, Undefined) else None,
    )


def _groups(rows: Sequence[EvalRow]) -> list[str] | None:
    """The rows' groups, where every one has one and some share it."""
    groups = [row.group for row in rows if row.group is not None]
    return groups if len(groups) == len(rows) and len(set(groups)) < len(groups) else None


def _unequal(weights: Sequence[float]) -> Sequence[float] | None:
    return weights if len(set(weights)) > 1 else None
