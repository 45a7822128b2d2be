"""Differences: the examples on which two systems do not score the same, for a person to read."""

from dataclasses import dataclass

from tenbin.report.evidence import Evidence, System
from tenbin.report.recommendation import Recommendation
from tenbin.types import EvalRow

MOST = 10
"""Examples shown of one direction: 20 a pair."""


@dataclass(frozen=True, slots=True)
class Differing:
    """One example and what each of the two systems made of it."""

    first: EvalRow
    second: EvalRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """The examples on which `winner` scores higher than `loser`, the largest differences first."""

    loser: System
    winner: System
    count: int
    """Of all such examples."""
    shown: tuple[Differing, ...]
    """At most `MOST`; first = loser, second = winner."""
    right_wrong: bool
    """Scores are 0 or 1: `wrong` and `right` are the words."""
    kept: bool = True
    """False: the rows of one system are not kept."""


def differing(evidence: Evidence, found: Recommendation) -> list[Direction]:
    """The pairs worth reading, both directions of each."""
    return [
        direction
        for first, second in pairs(evidence, found)
        for direction in (
            _direction(first, second, evidence.headline),
            _direction(second, first, evidence.headline),
        )
    ]


def pairs(evidence: Evidence, found: Recommendation) -> list[tuple[System, System]]:
    """(base model, its best run) of the leading model, then the leading run and the next best finalist."""
    tuned = [s for s in evidence.of_kind("tuned", "adapter", "hosted") if s.finalist]
    tuned.sort(key=lambda s: -(s.value(evidence.headline) or 0.0))
    lead = found.chosen if found.chosen and found.chosen in tuned else tuned[0] if tuned else found.best
    if lead is None:
        return []
    chosen: list[tuple[System, System]] = [
        (base, lead) for base in evidence.of_kind("base") if base.model == lead.model and base is not lead
    ]
    rivals = [s for s in tuned if s is not lead] or [s for s in evidence.of_kind("base") if s is not lead]
    rivals = [s for s in rivals if (s, lead) not in chosen]
    rivals.sort(key=lambda s: -(s.value(evidence.headline) or 0.0))
    return chosen + [(rival, lead) for rival in rivals[:1]]


def _direction(loser: System, winner: System, metric: str) -> Direction:
    theirs = {row.id: row for row in winner.rows}
    found, scores = [], set()
    for row in loser.rows:
        other = theirs.get(row.id)
        low, high = row.scores.get(metric), other.scores.get(metric) if other else None
        if other is None or low is None or high is None:
            continue
        scores |= {low, high}
        if high > low:
            found.append((low - high, row.id, Differing(row, other)))
    found.sort(key=lambda item: item[:2])
    return Direction(
        loser=loser,
        winner=winner,
        count=len(found),
        shown=tuple(item for _, _, item in found[:MOST]),
        right_wrong=scores <= {0.0, 1.0},
        kept=bool(loser.rows and winner.rows),
    )
