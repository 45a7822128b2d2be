"""RuleGrade: the grade that a rule gives to a completion, what it rests on and why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tenbin.tasks.grading.choice import find_choice, read_choice
from tenbin.tasks.grading.marking import RULES, Marking, marking_of
from tenbin.tasks.grading.number import equal_numbers, read_number
from tenbin.tasks.grading.reading import Reading
from tenbin.tasks.grading.units import UNITS, unit_name
from tenbin.tasks.metrics.answers import exact_match_nfkc
from tenbin.tasks.normalize import nfkc
from tenbin.types import Example


@dataclass(frozen=True, slots=True)
class RuleGrade:
    """A grade by rule."""

    extracted: str | None
    """None = unparsed: it counts as wrong, and is counted."""
    share: float
    """Of the question's points, 0 or 1."""
    why: str


def grade_by_rule(completion: str, example: Example) -> RuleGrade | None:
    """The grade of a completion; None of a question that a judge or people grade."""
    marking = marking_of(example)
    if marking.by not in RULES:
        return None
    reading = _read(completion, marking)
    if reading.extracted is None:
        return RuleGrade(None, 0.0, reading.why)
    right, why = _MATCH[marking.by](reading.extracted, marking)
    return RuleGrade(reading.extracted, float(right), f"{reading.why}: {why}")


def extract(completion: str, example: Example) -> str | None:
    """What the question's rule reads from a completion; the whole of it where there is no such rule.

    None = unparsed: nothing, or more than one thing, could be read.
    """
    return _read(completion, marking_of(example)).extracted


def as_compared(example: Example) -> Example:
    """The example with references of the kind that `extract` gives, for metrics that compare texts.

    Of a choice that is its text, also where the bank names the right one by its letter.
    """
    marking = marking_of(example)
    if marking.by != "choice" or marking.choices is None:
        return example
    return replace(example, references=tuple(marking.choices.shown(p) for p in sorted(marking.right)))


def share_by_rule(answer: str | None, example: Example) -> float | None:
    """Score of an extracted answer in [0, 1]; None where a judge or people grade the question."""
    if marking_of(example).by not in RULES:
        return None
    if answer is None:
        return 0.0
    grade = grade_by_rule(answer, example)
    assert grade is not None
    return grade.share


def _read(completion: str, marking: Marking) -> Reading:
    if marking.by == "choice":
        assert marking.choices is not None
        return read_choice(completion, marking.choices)
    if marking.by == "number":
        return read_number(completion, marking.unit or _reference_unit(marking))
    text = completion.strip()
    if marking.by not in RULES:
        return Reading(text, "the whole answer")  # also an empty one: whoever grades it sees that
    return Reading(text or None, "the whole answer" if text else "the answer is empty")


def _reference_unit(marking: Marking) -> str:
    """The unit in which the reference is written, so that numbers with another one are looked at last."""
    text = unit_name(marking.references[0]) if marking.references else ""
    return next((name for name in sorted(UNITS, key=len, reverse=True) if text.endswith(name)), "")


def _choice(answer: str, marking: Marking) -> tuple[bool, str]:
    assert marking.choices is not None
    right = find_choice(answer, marking.choices) in marking.right
    return right, "the right one" if right else "not the right one"


def _number(answer: str, marking: Marking) -> tuple[bool, str]:
    tried = [
        equal_numbers(answer, reference, units=marking.unit, tolerance=marking.tolerance)
        for reference in marking.references
    ]
    return next((result for result in tried if result[0]), tried[0])


def _exact(answer: str, marking: Marking) -> tuple[bool, str]:
    right = any(exact_match_nfkc(answer, reference) for reference in marking.references)
    return right, "equals a reference" if right else "equals no reference"


def _contains(answer: str, marking: Marking) -> tuple[bool, str]:
    held = _held(answer, marking)
    return bool(held), f"holds {'、'.join(held)}" if held else "holds no reference"


def _contains_all(answer: str, marking: Marking) -> tuple[bool, str]:
    held = _held(answer, marking)
    missing = [reference for reference in marking.references if reference not in held]
    return not missing, f"lacks {'、'.join(missing)}" if missing else "holds every reference"


def _held(answer: str, marking: Marking) -> list[str]:
    """The references that stand in an answer, after NFKC, lower case and without white space."""
    text = _joined(answer)
    return [reference for reference in marking.references if _joined(reference) in text]


def _joined(text: str) -> str:
    return "".join(nfkc(text).lower().split())


_MATCH: Mapping[str, Callable[[str, Marking], tuple[bool, str]]] = {
    "choice": _choice,
    "number": _number,
    "exact": _exact,
    "contains": _contains,
    "contains_all": _contains_all,
}
