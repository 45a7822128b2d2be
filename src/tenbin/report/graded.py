"""The systems of a question bank with the grades of people and judges that the store holds."""

from collections.abc import Sequence
from dataclasses import replace

from tenbin.grading.scores import with_grades
from tenbin.grading.settings import read_settings
from tenbin.grading.settle import grades_by_answer
from tenbin.grading.store import Grade, read_grades
from tenbin.report.system import System
from tenbin.runs import StudyFolder


def with_points(study: StudyFolder, systems: Sequence[System], level: float) -> list[System]:
    """The same systems; those that answered a bank with the settled grades as their points.

    The store is read here, not result.json: a grade given a moment ago counts.

    Raises:
        DataError: where the store is not whole.
    """
    if not any(row.question for system in systems for row in system.rows):
        return list(systems)
    given = grades_by_answer(all_grades(study))
    settings = read_settings(study)
    found = []
    for system in systems:
        graded = with_grades(system.result, system.rows, given, settings, level=level)
        found.append(replace(system, result=graded.result, rows=graded.rows))
    return found


def all_grades(study: StudyFolder) -> tuple[Grade, ...]:
    """The grades of a study folder and of those compared with it, in the order of writing of each."""
    return tuple(grade for path in (study.path, *study.more) for grade in read_grades(path))
