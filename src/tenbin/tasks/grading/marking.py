"""Marking: how a row of a bank says that its answer is graded; and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

from tenbin.tasks.grading.choice import Choices, find_choice, is_label, parse_choices
from tenbin.tasks.grading.number import is_number, is_tolerance
from tenbin.tasks.normalize import nfkc
from tenbin.types import Example

By = Literal["choice", "number", "exact", "contains", "contains_all", "judge", "people"]
BY: tuple[By, ...] = get_args(By)
RULES: tuple[By, ...] = ("choice", "number", "exact", "contains", "contains_all")
FIELDS = ("category", "marking_note", "points", "grade", "tolerance", "unit")
"""Columns of a bank that no prompt shows."""
WORDS: Mapping[str, By] = {
    "選択": "choice",
    "選択肢": "choice",
    "数値": "number",
    "一致": "exact",
    "完全一致": "exact",
    "含む": "contains",
    "部分一致": "contains",
    "すべて含む": "contains_all",
    "審査": "judge",
    "審査モデル": "judge",
    "人": "people",
    "採点者": "people",
}
"""What `grade` may also say."""

Wrong = tuple[str, str, str]
"""(field, what is found, remedy)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """How one question is marked."""

    by: By
    points: float = 1.0
    category: str = ""
    note: str = ""
    references: tuple[str, ...] = ()
    choices: Choices | None = None
    right: frozenset[int] = frozenset()
    """Of `choice`: positions of the right choices, any one of which is the answer."""
    unit: str = ""
    tolerance: str = ""


def marking_of(example: Example) -> Marking:
    """The marking of a question that `marking_problems` found nothing wrong with.

    Without `grade` a question whose references are among its choices is graded by choice, another one with a
    marking note by people, any other by exact match.
    """
    texts = {**example.inputs, **example.marking}
    by = _by(texts.get("grade", ""), example)
    assert by is not None, f"{example.id}: {texts.get('grade')!r}: the bank was not checked"
    choices = parse_choices(example.inputs.get("choices", "")) if by == "choice" else None
    references = one_a_line(example.references) if by in RULES else example.references
    right = [find_choice(text, choices) for text in references] if choices is not None else []
    return Marking(
        by=by,
        points=_points(texts.get("points", "")) or 1.0,
        category=texts.get("category", "").strip(),
        note=texts.get("marking_note", "").strip(),
        references=references,
        choices=choices,
        right=frozenset(position for position in right if position is not None),
        unit=texts.get("unit", "").strip(),
        tolerance=texts.get("tolerance", "").strip(),
    )


def one_a_line(references: Sequence[str]) -> tuple[str, ...]:
    """References of rules: a cell of several lines holds one acceptable answer a line."""
    return tuple(line.strip() for text in references for line in text.splitlines() if line.strip())


def marking_problems(example: Example) -> list[Wrong]:
    """Everything that is wrong with how a question is marked; [] where nothing is."""
    texts = {**example.inputs, **example.marking}
    by = _by(texts.get("grade", ""), example)
    found: list[Wrong] = []
    if by is None:
        grade = texts["grade"]
        near = get_close_matches(grade.strip().lower(), [*BY, *WORDS], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        found.append(("grade", f"{grade!r} is no way to grade", f"{hint}use one of {', '.join(BY)}"))
    points = texts.get("points", "")
    if points.strip() and _points(points) is None:
        found.append(("points", f"{points!r} is not a number above 0", "write the points: 1, 2.5"))
    if not is_tolerance(texts.get("tolerance", "")):
        text = texts["tolerance"]
        found.append(
            ("tolerance", f"{text!r} is no tolerance", "write 0.5 (in the unit) or 1% (of the reference)")
        )
    if by != "number" and by is not None:
        found += [
            (
                name,
                f"is {texts[name]!r}, but the question is graded by {by}",
                "empty it, or set grade to number",
            )
            for name in ("tolerance", "unit")
            if texts.get(name, "").strip()
        ]
    if by == "choice":
        found += _choice_problems(example)
    elif not texts.get("grade", "").strip():
        found += _label_problems(example)
    if by == "number":
        found += _number_problems(example, texts.get("unit", ""))
    return found


def _choice_problems(example: Example) -> list[Wrong]:
    choices = parse_choices(example.inputs.get("choices", ""))
    if len(choices.items) < 2:
        found = f"the question is graded by choice and has {len(choices.items)} choices"
        return [("choices", found, "write one choice a line, two or more")]
    remedy = "write the text or the label of one choice"
    problems = [
        ("reference", f"{text!r} is none of the choices", remedy)
        for text in one_a_line(example.references)
        if find_choice(text, choices) is None
    ]
    texts = [find_choice(choice.text, choices) for choice in choices.items]
    if texts != list(range(len(texts))):
        problems.append(("choices", "two choices are the same", "make them differ"))
    return problems


def _label_problems(example: Example) -> list[Wrong]:
    """References that look like the label of a choice and are none: a slip, no answer to match exactly."""
    choices = parse_choices(example.inputs.get("choices", ""))
    if len(choices.items) < 2:
        return []
    remedy = "write the text or the label of one choice, or say in `grade` how else it is graded"
    return [
        ("reference", f"{text!r} is none of the {len(choices.items)} choices", remedy)
        for text in one_a_line(example.references)
        if is_label(text) and find_choice(text, choices) is None
    ]


def _number_problems(example: Example, units: str) -> list[Wrong]:
    return [
        ("reference", f"{text!r} is not one number", "write one number a line, with its unit or without")
        for text in one_a_line(example.references)
        if not is_number(text, units)
    ]


def _by(text: str, example: Example) -> By | None:
    name = nfkc(text).strip().lower()
    if name in BY:
        return next(by for by in BY if by == name)
    if name:
        return WORDS.get(name)
    if example.inputs.get("choices", "").strip() and not _choice_problems(example):
        return "choice"
    return "people" if example.marking.get("marking_note", "").strip() else "exact"


def _points(text: str) -> float | None:
    """Points above 0; None where the text is no such number."""
    try:
        value = float(nfkc(text).strip())
    except ValueError:
        return None
    return value if 0 < value < 1e6 else None
