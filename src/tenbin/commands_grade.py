"""The `tenbin grade` commands as functions: sheets out, sheets in, agreement, and what is still open."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tenbin.config_grading import GradingConfig
from tenbin.errors import ConfigError, DataError, Problem
from tenbin.grading.agreement import Coefficient, RaterAgreement, rater_agreement
from tenbin.grading.folder import gradable_items, study_of
from tenbin.grading.items import Item, finished_runs
from tenbin.grading.scores import apply_grades
from tenbin.grading.settings import check_settings, read_settings, write_settings
from tenbin.grading.store import Grade, append_grades, latest, now, read_grades
from tenbin.points import POINTS
from tenbin.report.comparisons import compare_all
from tenbin.report.evidence import read_evidence
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder, write_json
from tenbin.sheets.disagreements import write_disagreements
from tenbin.sheets.export import Wanted, choose_items, write_sheet
from tenbin.sheets.reading import SheetGrades, read_sheet

FOLDER = "grading"
"""Of a study: sheets, agreement.json, points.json and disagreements.xlsx."""


def export_sheets(
    paths: Sequence[Path],
    raters: Sequence[str],
    *,
    wanted: Wanted,
    disputed: bool,
    again: bool,
    seed: int,
    output: Path | None,
    language: Language,
    console: Console,
) -> list[Path]:
    """`tenbin grade export`: one blind sheet a rater.

    Raises:
        DataError: nothing to grade, for any of the raters.
        ConfigError: a rater without a name, or twice.
    """
    names = _rater_names(raters)
    study, runs = study_of(paths)
    items = gradable_items(study, runs)
    grades = read_grades(study.path)
    settings = read_settings(study)
    problems: list[Problem] = []
    chosen = {}
    for rater in names:
        try:
            chosen[rater] = choose_items(items, grades, rater, wanted=wanted, disputed=disputed, again=again)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    written = []
    for rater, found in chosen.items():
        path = (output or study.path / FOLDER) / f"{_file_name(rater)}.xlsx"
        write_sheet(path, found.items, rater=rater, scale=settings.scale, seed=seed, words=Words(language))
        questions = len({item.question for item in found.items})
        done = f"; {found.num_done:,} graded by this rater before are left out" if found.num_done else ""
        _say(console, f"wrote {path}: {len(found.items):,} answers to {questions:,} questions{done}")
        written.append(path)
    return written


def import_sheets(
    folder: Path,
    sheets: Sequence[Path],
    *,
    rater: str | None,
    disagreement: Literal["mean", "adjudicator"] | None,
    adjudicator: str | None,
    console: Console,
) -> RaterAgreement:
    """`tenbin grade import`: read sheets, keep their grades, say how far raters agree, work out the points.

    Raises:
        UserError: with every cell of every sheet that is wrong; then nothing is kept.
    """
    study, _ = study_of([folder])
    items = gradable_items(study, finished_runs(study))
    settings = _settings(study, disagreement, adjudicator)
    found = _read_all(_sheets(study, sheets), items, settings, rater)
    for sheet in found:
        _say_sheet(sheet, console)
    old = {
        (grade.key, grade.grader): grade
        for grade in latest(read_grades(study.path))
        if grade.kind == "person"
    }
    time = now()
    fresh = [
        replace(grade, time=time)
        for sheet in found
        for grade in sheet.grades
        if not _same(old.get((grade.key, grade.grader)), grade)
    ]
    changed = sum((grade.key, grade.grader) in old for grade in fresh)
    append_grades(study.path, fresh)
    if disagreement is not None or adjudicator is not None:
        write_settings(study.path, settings)
    total = sum(len(sheet.grades) for sheet in found)
    _say(
        console, f"{len(fresh) - changed:,} new grades, {changed:,} changed, {total - len(fresh):,} as before"
    )
    return show_grades(folder, console=console)


def show_grades(folder: Path, *, console: Console) -> RaterAgreement:
    """`tenbin grade show`: who graded, agreement, disagreements, what is open; kept in files, too."""
    study, runs = study_of([folder])
    items = gradable_items(study, runs)
    apply_grades(study)
    settings = read_settings(study)
    grades = read_grades(study.path)
    found = rater_agreement(items, grades, settings)
    place = study.path / FOLDER
    write_json(place / "agreement.json", agreement_json(found, settings))
    write_json(place / "points.json", points_json(study))
    lines = [f"{rater} graded {num:,} of {len(items):,} answers" for rater, num in found.num_graded.items()]
    for line in (*lines, *agreement_lines(found)):
        _say(console, line)
    path = place / "disagreements.xlsx"
    if found.disagreements:
        write_disagreements(path, found.disagreements, found.raters, Words("ja"))
        how = settings.disagreement + (f" ({settings.adjudicator})" if settings.adjudicator else "")
        num = len(found.disagreements)
        _say(console, f"{num:,} answer{'s' * (num != 1)} graded differently, counted by {how}: {path}")
    else:
        path.unlink(missing_ok=True)
    _say_open(study, console)
    _say(console, f"tenbin report {folder} writes the points into the report")
    return found


def agreement_json(found: RaterAgreement, settings: GradingConfig) -> dict[str, Any]:
    """The agreement as it is kept: figures, intervals, and how disagreements count."""
    return {
        "settings": settings.model_dump(mode="json"),
        "raters": dict(found.num_graded),
        "num_items": found.num_items,
        "num_disagreements": len(found.disagreements),
        "alpha": _coefficient_json(found.alpha, "Krippendorff's alpha, interval scale"),
        "pairs": [
            {
                "raters": [pair.first, pair.second],
                "num_items": pair.num_items,
                "num_equal": pair.num_equal,
                "kappa": _coefficient_json(pair.kappa, "Cohen's kappa, quadratic weights"),
            }
            for pair in found.pairs
        ],
        "disagreements": [
            {
                "question": d.item.question,
                "code": d.item.code,
                "grades": {rater: grade.grade for rater, grade in d.grades.items()},
                "settled": asdict(d.settled),
            }
            for d in found.disagreements
        ],
    }


def points_json(study: StudyFolder) -> dict[str, Any]:
    """Points of every system, and every pair of systems tested on the same questions, corrected by Holm."""
    evidence = read_evidence(study, Words("en"))
    systems = [system for system in evidence.systems if system.result.points]
    tested = compare_all(systems, POINTS, evidence.level)
    return {
        "systems": {s.name: [asdict(part) for part in s.result.points] for s in systems},
        "pairs": [
            {
                "first": c.a.name,
                "second": c.b.name,
                "n": c.n,
                "difference": c.difference._asdict() if c.difference else None,
                "method": c.method,
                "p": c.p_value,
                "p_holm": c.p_adjusted,
                "reason": c.reason,
            }
            for c in tested
        ],
    }


def agreement_lines(found: RaterAgreement) -> list[str]:
    """Agreement in words, a line a pair and one for all."""
    lines = [
        f"{pair.first} and {pair.second}: {pair.num_items:,} answers graded by both, {pair.num_equal:,}"
        f" alike; weighted kappa {coefficient_text(pair.kappa)}"
        for pair in found.pairs
    ]
    if len(found.raters) > 1:
        lines.append(
            f"all raters: Krippendorff's alpha {coefficient_text(found.alpha)},"
            f" {found.num_items:,} answers graded by two or more"
        )
    return lines


def coefficient_text(found: Coefficient) -> str:
    """`0.82 (0.61 to 0.95)`, or why there is none."""
    if found.value is None:
        return f"undefined: {found.reason}"
    if found.interval is None:
        return f"{found.value:.2f} ({found.reason})"
    return f"{found.value:.2f} ({found.interval.low:.2f} to {found.interval.high:.2f})"


def _coefficient_json(found: Coefficient, method: str) -> dict[str, Any]:
    interval = found.interval._asdict() if found.interval else None
    return {"method": method, "value": found.value, "interval": interval, "reason": found.reason}


def _rater_names(raters: Sequence[str]) -> list[str]:
    names = [rater.strip() for rater in raters]
    problems = [
        Problem(where="--rater", found="a rater has no name", remedy="write --rater NAME")
        for n in names
        if not n
    ]
    problems += [
        Problem(where="--rater", found=f"{name} is there {num} times", remedy="name each rater once")
        for name, num in Counter(_file_name(n) for n in names if n).items()
        if num > 1
    ]
    if problems:
        raise ConfigError(problems)
    return names


def _file_name(rater: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in rater).strip(".") or "rater"


def _sheets(study: StudyFolder, sheets: Sequence[Path]) -> list[Path]:
    """The sheets named, or those in the study's grading folder."""
    if sheets:
        return list(sheets)
    own = study.path / FOLDER
    found = [
        p for p in sorted(own.glob("*.xlsx")) if p.name != "disagreements.xlsx" and p.name[:1] not in "~."
    ]
    if not found:
        remedy = "name them, or put them into that folder"
        raise DataError(Problem(where=str(own), found="there are no sheets", remedy=remedy))
    return found


def _read_all(
    paths: Sequence[Path], items: Sequence[Item], settings: GradingConfig, rater: str | None
) -> list[SheetGrades]:
    """Every sheet, or every problem of every sheet."""
    by_code = {item.code: item for item in items}
    found: list[SheetGrades] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found.append(read_sheet(path, by_code, sorted(settings.scale), rater=rater))
        except DataError as error:
            problems += error.problems
    by_rater = Counter(sheet.rater for sheet in found)
    problems += [
        Problem(
            where=", ".join(sheet.path.name for sheet in found if sheet.rater == name),
            found=f"{num} sheets are of one rater, {name}, and differ on an answer",
            remedy="keep one of them, or import them one after the other",
        )
        for name, num in by_rater.items()
        if num > 1 and _conflict([sheet for sheet in found if sheet.rater == name])
    ]
    if problems:
        raise DataError(problems)
    return found


def _conflict(sheets: Sequence[SheetGrades]) -> bool:
    values: dict[Any, float | None] = {}
    return any(values.setdefault(g.key, g.grade) != g.grade for sheet in sheets for g in sheet.grades)


def _settings(
    study: StudyFolder, disagreement: Literal["mean", "adjudicator"] | None, adjudicator: str | None
) -> GradingConfig:
    """The study's settings with what the command says; naming an adjudicator says that one decides."""
    old = read_settings(study).model_dump(mode="json")
    if disagreement is None and adjudicator is None:
        return check_settings(old, "grading")
    chosen = disagreement or "adjudicator"
    name = adjudicator or (old["adjudicator"] if chosen == "adjudicator" else None)
    return check_settings({**old, "disagreement": chosen, "adjudicator": name}, "grade import")


def _same(old: Grade | None, new: Grade) -> bool:
    return old is not None and (old.grade, old.reason) == (new.grade, new.reason)


def _say_sheet(sheet: SheetGrades, console: Console) -> None:
    _say(
        console,
        f"{sheet.path.name}: {len(sheet.grades):,} of {sheet.num_rows:,} answers graded by {sheet.rater}",
    )
    if sheet.ungraded:
        shown = ", ".join(cell.split("!")[-1] for cell in sheet.ungraded[:10])
        more = f" and {len(sheet.ungraded) - 10} more" if len(sheet.ungraded) > 10 else ""
        _say(console, f"  not graded, and not counted: {shown}{more}")


def _say_open(study: StudyFolder, console: Console) -> None:
    """How many questions of each run have no grade yet."""
    for run in finished_runs(study):
        for result in run.result().results.values():
            if result.points and (part := result.points[0]).num_ungraded:
                of = part.num_graded + part.num_ungraded
                _say(console, f"{run.spec.label}: {part.num_ungraded:,} of {of:,} answers are not graded yet")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
