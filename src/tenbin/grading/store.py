"""Grade, and grades.jsonl: the append-only store of who gave which answer which grade, when and why."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from tenbin.errors import DataError, Problem
from tenbin.runs import storage
from tenbin.types import JsonValue

GraderKind = Literal["rule", "judge", "person"]
KINDS: tuple[GraderKind, ...] = ("rule", "judge", "person")
STORE = "grades.jsonl"

AnswerKey = tuple[str, str, str]
"""(question id, version of the question, whole completion): what a grade is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """One grade of one answer by one grader. Nothing is ever changed: a later grade takes its place."""

    question: str
    """Id of the question."""
    version: str
    """Of the question, its references and marking (`Item.version`): grades under other ones do not count."""
    answer: str
    """The whole completion. Systems that gave the same answer share its grades."""
    extracted: str | None
    """The part that the grade rests on; None = nothing could be read from the answer."""
    grade: float | None
    """One of `scale`. None = no grade came of it (unparsed judgement, withdrawn): counted, never 0."""
    scale: tuple[float, ...]
    """The grades that were allowed, from low to high; the highest is full points."""
    kind: GraderKind
    grader: str
    """Name of the person, id of the judge, or the rule: `choice`."""
    reason: str
    """Why; "" where a person gave none."""
    time: str
    """When, ISO 8601 in UTC: `2026-01-31T09:30:00+00:00`."""
    repeat: int = 0
    """From 0, where a judge is asked several times."""
    source: str | None = None
    """Where it comes from: `sato.xlsx[採点]!K4`, the judge's settings."""
    details: Mapping[str, JsonValue] = field(default_factory=dict)
    """Anything else worth keeping: the judge's whole completion, the order it saw."""

    @property
    def key(self) -> AnswerKey:
        """What it is a grade of."""
        return (self.question, self.version, self.answer)

    @property
    def share(self) -> float | None:
        """Grade / highest grade: the share of the question's points that it is worth."""
        return None if self.grade is None else self.grade / max(self.scale)


def now() -> str:
    """The time as grades carry it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append_grades(folder: Path, grades: Iterable[Grade]) -> int:
    """Append grades to the store of a study folder, all or none of them: how many.

    Raises:
        ValueError: a grade that is not on its scale, or without a grader: a mistake of the caller.
        StorageError: where the file cannot be written.
    """
    found = list(grades)
    for grade in found:
        if wrong := _wrong(grade):
            raise ValueError(f"{grade.question} by {grade.grader}: {wrong}")
    if not found:
        return 0
    # ASCII: an answer may hold lone surrogates and every kind of line separator.
    lines = "".join(json.dumps(asdict(grade), allow_nan=False) + "\n" for grade in found).encode()
    path = folder / STORE
    with storage(path), path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a page, a judge and an import may write at once
        file.truncate(_whole_bytes(path))  # what a crash cut off was never said to be kept
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    return len(found)


def read_grades(folder: Path) -> tuple[Grade, ...]:
    """Every grade ever given, in the order of writing; () where there is no store.

    Raises:
        DataError: where a line is not a grade. A last line that a crash cut off is left out.
    """
    path = folder / STORE
    if not path.exists():
        return ()
    with storage(path):
        whole = path.read_bytes()[: _whole_bytes(path)]
    grades, problems = [], []
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            grades.append(_grade(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            found = f"not a grade: {error}"
            remedy = "mend the line, or put the file back from a copy"
            problems.append(Problem(where=f"{path}:{number}", found=found, remedy=remedy))
    if problems:
        raise DataError(problems)
    return tuple(grades)


def latest(grades: Sequence[Grade]) -> tuple[Grade, ...]:
    """The last word of each grader on each answer (and repeat), in the order first given; a grade that was
    withdrawn stands as one without a value."""
    return tuple({(g.key, g.kind, g.grader, g.repeat): g for g in grades}.values())


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1


def _grade(raw: dict[str, Any]) -> Grade:
    grade = Grade(**{**raw, "scale": tuple(raw["scale"])})
    texts = (grade.question, grade.version, grade.answer, grade.grader, grade.reason, grade.time)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("question, version, answer, grader, reason and time are texts")
    if wrong := _wrong(grade):
        raise ValueError(wrong)
    return grade


def _wrong(grade: Grade) -> str | None:
    if grade.kind not in KINDS:
        return f"{grade.kind!r} is not one of {', '.join(KINDS)}"
    if not grade.grader.strip():
        return "nobody gave it: the grader has no name"
    if len(grade.scale) < 2 or not all(isfinite(g) and g >= 0 for g in grade.scale):
        return f"{list(grade.scale)} is no scale: two grades or more, none below 0"
    if grade.grade is not None and grade.grade not in grade.scale and grade.kind == "person":
        return f"{grade.grade} is not on the scale {list(grade.scale)}"
    if grade.grade is not None and not min(grade.scale) <= grade.grade <= max(grade.scale):
        return f"{grade.grade} is outside the scale {list(grade.scale)}"
    return None
