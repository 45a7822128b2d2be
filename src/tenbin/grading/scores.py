"""Scores of graded answers: the store joined with a run's rows, and its points in result.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tenbin.config_grading import GradingConfig
from tenbin.grading.items import answer_key, finished_runs, reported_rows, reporting_split
from tenbin.grading.settings import read_settings
from tenbin.grading.settle import Settled, grades_by_answer, settle
from tenbin.grading.store import AnswerKey, Grade, append_grades, now, read_grades
from tenbin.points import POINTS, points_parts, with_points
from tenbin.runs import Run, StudyFolder
from tenbin.tasks.grading.marking import FIELDS
from tenbin.tasks.grading.rule import grade_by_rule
from tenbin.types import EvalResult, EvalRow, Example

RULE_SCALE = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A result with the grades of people and judges in it."""

    result: EvalResult
    """Its points worked out anew."""
    rows: tuple[EvalRow, ...]
    """Their score `points` is the settled grade; None where there is none."""
    settled: Mapping[str, Settled]
    """By question id, of the rows that are answers."""


def with_grades(
    result: EvalResult,
    rows: Sequence[EvalRow],
    given: Mapping[AnswerKey, Sequence[Grade]],
    settings: GradingConfig,
    *,
    level: float = 0.95,
) -> Graded:
    """Put the grades that count into a result.

    Args:
        rows: those of the result.
        given: the last word of every grader, by answer (`grades_by_answer`).
        settings: how different grades count.
        level: of the intervals.
    """
    settled = {
        row.id: settle(row.question["grade"], rule_share(row), given.get(answer_key(row), ()), settings)
        for row in rows
        if row.question and row.error is None
    }
    new = tuple(
        replace(row, scores={**row.scores, POINTS: settled[row.id].share}) if row.id in settled else row
        for row in rows
    )
    parts = points_parts(new, level=level, by=lambda row: by_text(settled[row.id]))
    metrics = with_points(result.metrics, parts)
    return Graded(result=replace(result, points=parts, metrics=metrics), rows=new, settled=settled)


def by_text(settled: Settled) -> str:
    """Who graded: `rule`, `people 佐藤, 鈴木`, `judge gpt-4o`."""
    if settled.kind == "rule":
        return "rule"
    kind = "people" if settled.kind == "person" else "judge"
    return f"{kind} {', '.join(settled.graders)}"


def rule_share(row: EvalRow) -> float | None:
    """What the question's rule gives to a row; None of questions without a rule."""
    grade = grade_by_rule(row.completion, example_of(row))
    return grade.share if grade else None


def example_of(row: EvalRow) -> Example:
    """The question of a row, as the rules take it."""
    marking = {name: row.question[name] for name in FIELDS if name in row.question}
    inputs = {name: text for name, text in row.question.items() if name not in marking}
    return Example(id=row.id, inputs=inputs, references=row.references, marking=marking)


def apply_grades(study: StudyFolder, *, level: float = 0.95) -> int:
    """Keep the grades of rules in the store, and the points of every finished run in its result.json.

    What is there already is not written again. Runs of other tasks are left alone.

    Returns:
        the number of runs that have questions.

    Raises:
        DataError: where the store or a run is not whole.
    """
    settings = read_settings(study)
    runs = finished_runs(study)
    record_rules(study, runs)
    given = grades_by_answer(read_grades(study.path))
    num = 0
    for run in runs:
        result = run.result()
        split = reporting_split(result)
        rows = reported_rows(run, result, split)
        if not any(row.question for row in rows):
            continue
        num += 1
        old = result.results[split]
        own = next((m.estimate.level for m in old.metrics if m.estimate), level)
        new = with_grades(old, rows, given, settings, level=own).result
        if new != old:
            run.finish(replace(result, results={**result.results, split: new}))
    return num


def record_rules(study: StudyFolder, runs: Sequence[Run]) -> int:
    """Append the grades of rules that the store does not have yet: how many."""
    known = {
        (grade.key, grade.grader): (grade.grade, grade.extracted)
        for grade in read_grades(study.path)
        if grade.kind == "rule"
    }
    found: dict[tuple[AnswerKey, str], Grade] = {}
    for run in runs:
        for row in reported_rows(run, run.result()):
            if not row.question or row.error is not None:
                continue
            grade = grade_by_rule(row.completion, example_of(row))
            if grade is None:
                continue
            key, grader = answer_key(row), row.question["grade"]
            if known.get((key, grader)) != (grade.share, grade.extracted):
                found[(key, grader)] = Grade(
                    question=row.id,
                    version=key[1],
                    answer=row.completion,
                    extracted=grade.extracted,
                    grade=grade.share,
                    scale=RULE_SCALE,
                    kind="rule",
                    grader=grader,
                    reason=grade.why,
                    time=now(),
                )
    return append_grades(study.path, found.values())
