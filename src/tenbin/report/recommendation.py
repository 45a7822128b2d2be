"""Recommendation: which system to choose, how sure that is, and the rule that says so.

The rule (also printed in the report):

1. The runs of one model compete on the set that chose their epoch; the winner, and every model as it is,
   are weighed on the reporting set, beside the baselines that need no model.
2. Every pair is tested on the same examples, and the p values are corrected by Holm over all pairs.
3. The best is the one with the highest headline score. Systems that are not shown to be worse than it
   are tied with it.
4. If the best is not shown to be better than every baseline, none is recommended.
5. Among the tied ones that beat every baseline the cheapest is chosen: a model on one's own machine before a
   hosted one (no data leave the house), then the smaller model, then the one without an adapter (nothing to
   train or keep), of hosted ones the one that costs less an answer, then the faster one, then the higher
   score.
"""

from dataclasses import dataclass
from typing import Literal

from tenbin.report.comparisons import Comparison, compare_all
from tenbin.report.evidence import Evidence, System

Verdict = Literal["choose", "tied", "base", "no baseline beaten", "nothing"]
Reason = Literal["local", "smaller", "base", "cheaper", "faster", "score"]
Cost = tuple[bool, float, bool, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the figures say; the words are made from it in `advice`."""

    verdict: Verdict
    """choose: the best is shown to be better than all others; tied: the cheapest of those that cannot be
    told apart; base: that one is a model as it is; no baseline beaten: use none; nothing: no results."""
    chosen: System | None
    best: System | None
    """The highest headline score."""
    tied: tuple[System, ...]
    """Not shown to be worse than the best, the best among them."""
    comparisons: tuple[Comparison, ...]
    reason: Reason | None = None
    """Why the chosen one comes before the other tied ones."""
    unbeaten: tuple[System, ...] = ()
    """Baselines that the best is not shown to beat."""

    def between(self, a: System, b: System) -> Comparison | None:
        """The comparison of two systems; None where they were not compared."""
        for comparison in self.comparisons:
            if {comparison.a.key, comparison.b.key} == {a.key, b.key}:
                return comparison
        return None


def recommend(evidence: Evidence) -> Recommendation:
    """Apply the rule of this file's first lines."""
    weighed = [s for s in evidence.systems if s.finalist and s.value(evidence.headline) is not None]
    comparisons = compare_all(weighed, evidence.headline, evidence.level)
    candidates = [s for s in weighed if s.kind != "baseline"]
    baselines = [s for s in weighed if s.kind == "baseline"]
    if not candidates:
        return Recommendation(verdict="nothing", chosen=None, best=None, tied=(), comparisons=comparisons)
    found = _Weighing(evidence, comparisons)
    best = max(candidates, key=lambda s: (s.value(evidence.headline) or 0.0, *_negated(cost(s, evidence))))
    unbeaten = tuple(b for b in baselines if not found.shown_better(best, b))
    tied = tuple(s for s in candidates if s is best or not found.shown_better(best, s))
    if unbeaten:
        return Recommendation(
            verdict="no baseline beaten",
            chosen=None,
            best=best,
            tied=tied,
            comparisons=comparisons,
            unbeaten=unbeaten,
        )
    usable = [s for s in tied if all(found.shown_better(s, b) for b in baselines)]
    chosen = min(usable, key=lambda s: (*cost(s, evidence), -(s.value(evidence.headline) or 0.0)))
    others = [s for s in usable if s is not chosen]
    return Recommendation(
        verdict="base" if chosen.kind == "base" else "choose" if len(tied) == 1 else "tied",
        chosen=chosen,
        best=best,
        tied=tied,
        comparisons=comparisons,
        reason=_reason(chosen, others, evidence) if others else None,
    )


@dataclass(frozen=True, slots=True)
class _Weighing:
    evidence: Evidence
    comparisons: tuple[Comparison, ...]

    def shown_better(self, a: System, b: System) -> bool:
        for comparison in self.comparisons:
            if {comparison.a.key, comparison.b.key} == {a.key, b.key}:
                if comparison.p_value is None:
                    return self._interval_above(a, b)
                return comparison.better(a, self.evidence.level)
        return False

    def _interval_above(self, a: System, b: System) -> bool:
        """Without the rows of one: the whole interval of `a` lies above the figure of `b`."""
        estimate = a.result.metric(self.evidence.headline).estimate
        other = b.value(self.evidence.headline)
        return estimate is not None and other is not None and estimate.low > other


def cost(system: System, evidence: Evidence) -> Cost:
    """(hosted, bytes of the model, whether an adapter comes on top, dollars an answer, seconds an example).

    Unknown is dearest. Bytes of the weights as planned; seconds rounded to two digits, since the clock is not
    sharper.
    """
    hosted, infinite = system.kind == "hosted", float("inf")
    size = 0.0 if hosted else weight_bytes(system, evidence)
    dollars = dollars_per_example(system) if hosted else 0.0
    seconds = seconds_per_example(system, evidence)
    return (
        hosted,
        size if size is not None else infinite,
        system.kind in ("tuned", "adapter"),
        dollars if dollars is not None else infinite,
        float(f"{seconds:.1e}") if seconds is not None else infinite,
    )


def dollars_per_example(system: System) -> float | None:
    """Of a hosted model; None where its price is not known."""
    use = system.run.hosted if system.run else None
    num_answers = system.result.num_examples * use.repeats if use else 0
    return use.cost_usd / num_answers if use and use.cost_usd is not None and num_answers else None


def weight_bytes(system: System, evidence: Evidence) -> float | None:
    """Bytes of the frozen weights as planned; None where there is no plan."""
    terms = evidence.plan.get(system.model or "", {}).get("terms") or {}
    sizes = [float(size) for name, size in terms.items() if name == "weights"]
    return sum(sizes) if sizes else None


def seconds_per_example(system: System, evidence: Evidence) -> float | None:
    """Evaluation time of one example by the model as it is, whose evaluation is one pass over one set; of a
    hosted model the median of its calls."""
    if system.run is not None and system.run.hosted is not None:
        return system.run.hosted.latency_median_s
    for base in evidence.of_kind("base"):
        if base.model == system.model and base.run and base.run.evaluate_s > 0 and base.result.num_examples:
            return base.run.evaluate_s / base.result.num_examples
    return None


def _negated(values: Cost) -> tuple[float, ...]:
    return tuple(-float(value) for value in values)


def _reason(chosen: System, others: list[System], evidence: Evidence) -> Reason:
    """The first part of the cost in which the chosen one is below the nearest other one."""
    nearest = min(cost(other, evidence) for other in others)
    names: tuple[Reason, ...] = ("local", "smaller", "base", "cheaper", "faster")
    for name, own, other in zip(names, cost(chosen, evidence), nearest, strict=True):
        if own != other:
            return name
    return "score"
