"""Settled: what all grades of one answer come to, and who gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tenbin.config_grading import GradingConfig
from tenbin.grading.store import AnswerKey, Grade, GraderKind, latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The grade that counts for one answer."""

    share: float | None
    """Of the question's points, in [0, 1]; None = not graded yet: it is in no sum."""
    kind: GraderKind | None = None
    graders: tuple[str, ...] = ()
    differ: bool = False
    """Whether raters gave it different grades."""
    why: str = ""
    """How the grades became one, or why there is none."""


def grades_by_answer(grades: Sequence[Grade]) -> Mapping[AnswerKey, tuple[Grade, ...]]:
    """The last word of every grader, by answer."""
    found: dict[AnswerKey, list[Grade]] = {}
    for grade in latest(grades):
        found.setdefault(grade.key, []).append(grade)
    return {key: tuple(given) for key, given in found.items()}


def settle(by: str, rule_share: float | None, grades: Sequence[Grade], settings: GradingConfig) -> Settled:
    """The grade that counts for one answer.

    People come first: they have seen the answer. Then the question's rule. A judge counts only for
    questions whose `grade` is `judge`; on others its grades are for calibration.

    Args:
        by: how the question says that it is graded: `choice`, ..., `judge`, `people`.
        rule_share: what the rule gave; None of questions without a rule.
        grades: the last word of every grader on this answer.
        settings: how different grades of people count.
    """
    people = [grade for grade in grades if grade.kind == "person" and grade.share is not None]
    if people:
        return _of_people(people, settings)
    if rule_share is not None:
        return Settled(share=rule_share, kind="rule", graders=(by,), why=f"by the rule `{by}`")
    judged = [grade for grade in grades if grade.kind == "judge"] if by == "judge" else []
    return _of_judges(judged) if judged else Settled(share=None, why="not graded yet")


def _of_people(grades: Sequence[Grade], settings: GradingConfig) -> Settled:
    shares = {grade.grader: grade.share for grade in grades if grade.share is not None}
    names = tuple(sorted(shares))
    differ = len(set(shares.values())) > 1
    if not differ:
        why = "one rater" if len(names) == 1 else f"{len(names)} raters agree"
        return Settled(share=next(iter(shares.values())), kind="person", graders=names, why=why)
    if settings.disagreement == "mean":
        why = f"mean of {len(names)} raters who differ"
        return Settled(share=fmean(shares.values()), kind="person", graders=names, differ=True, why=why)
    chosen = settings.adjudicator or ""
    if chosen in shares:
        why = f"the raters differ; {chosen} settled it"
        return Settled(share=shares[chosen], kind="person", graders=(chosen,), differ=True, why=why)
    why = f"the raters differ, and {chosen} has not graded it"
    return Settled(share=None, graders=names, differ=True, why=why)


def _of_judges(grades: Sequence[Grade]) -> Settled:
    """The mean over the judges of the mean of each one's repeats that gave a grade."""
    by_judge: dict[str, list[float]] = {}
    for grade in grades:
        if grade.share is not None:
            by_judge.setdefault(grade.grader, []).append(grade.share)
    if not by_judge:
        return Settled(share=None, why=f"none of {len(grades)} judgements gave a grade")
    means = [fmean(shares) for shares in by_judge.values()]
    unread = sum(grade.share is None for grade in grades)
    why = f"mean of {len(grades) - unread} judgements" + (f", {unread} gave no grade" if unread else "")
    return Settled(
        share=fmean(means), kind="judge", graders=tuple(sorted(by_judge)), differ=len(set(means)) > 1, why=why
    )
