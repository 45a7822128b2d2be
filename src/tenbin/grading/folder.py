"""What `tenbin grade` is told: study folders and run folders, as one study and its finished runs."""

from collections.abc import Sequence
from pathlib import Path

from tenbin.errors import DataError, Problem
from tenbin.grading.items import Item, collect_items, finished_runs
from tenbin.runs import Run, StudyFolder


def study_of(paths: Sequence[Path]) -> tuple[StudyFolder, list[Run]]:
    """The study that folders are of, and the runs that they name: all of a study folder, one of a run's.

    Raises:
        DataError: folders that are neither, or of several studies; runs that are not finished.
    """
    problems: list[Problem] = []
    studies: dict[Path, None] = {}
    named: set[str] = set()
    for path in paths:
        folder = path.resolve()
        if (folder / "run.json").exists():
            studies[folder.parent.parent] = None
            named.add(folder.name)
        elif (folder / "runs").is_dir():
            studies[folder] = None
        else:
            found = "is no study folder and no run folder" if folder.is_dir() else "there is no such folder"
            remedy = "name the folder that `tenbin run` or `tenbin eval` wrote, or one of its runs"
            problems.append(Problem(where=str(path), found=found, remedy=remedy))
    if len(studies) > 1:
        found = f"the folders are of {len(studies)} studies: {', '.join(map(str, studies))}"
        remedy = "name one study; evaluate models into one folder with `tenbin eval --output FOLDER`"
        problems.append(Problem(where="grade", found=found, remedy=remedy))
    if problems:
        raise DataError(problems)
    study = StudyFolder(next(iter(studies)))
    runs = finished_runs(study)
    chosen = [run for run in runs if not named or run.path.name in named]
    missing = named - {run.path.name for run in chosen}
    if missing:
        remedy = "let it finish: the same `tenbin run` or `tenbin eval` goes on"
        raise DataError(
            [
                Problem(where=name, found="this run has no result yet", remedy=remedy)
                for name in sorted(missing)
            ]
        )
    return study, chosen


def gradable_items(study: StudyFolder, runs: Sequence[Run]) -> tuple[Item, ...]:
    """The answers of the runs to questions of a bank.

    Raises:
        DataError: where there is none: the study is of another task.
    """
    items = collect_items(runs)
    if not items:
        found = "the runs of this folder answered no question bank"
        remedy = 'grading is for task = "question_bank"; runs of an older tenbin have to be made again'
        raise DataError(Problem(where=str(study.path), found=found, remedy=remedy))
    return items
