"""The report of a question bank: points by category and system, who graded, and how far raters agree."""

from collections.abc import Sequence

from tenbin.config_grading import GradingConfig
from tenbin.grading.agreement import Coefficient, RaterAgreement, rater_agreement
from tenbin.grading.items import collect_items
from tenbin.grading.settings import read_settings
from tenbin.points import POINTS
from tenbin.report.advice import level_text
from tenbin.report.evidence import Evidence, read_evidence
from tenbin.report.graded import all_grades
from tenbin.report.part import Part
from tenbin.report.system import System
from tenbin.report.table import Cell, Table, mark_best
from tenbin.report.tables import count
from tenbin.report.text import MISSING, scale_of
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder
from tenbin.types import PointsPart

MOST_COLUMNS = 8
"""Categories that have a column of their own."""
GRADERS = {"rule": "bank.by_rule", "people": "bank.by_people", "judge": "bank.by_judge"}


def article_tables(study: StudyFolder, *, language: Language = "en") -> list[Table]:
    """The table of points by system and category, from any set of finished runs; [] of other tasks."""
    say = Words(language)
    return points_tables(read_evidence(study, say), say)


def points_tables(evidence: Evidence, say: Words) -> list[Table]:
    """Points by category and in all, of every system that answered a bank: the article's table, with n,
    interval and what is not graded."""
    systems = [system for system in evidence.systems if system.result.points]
    if not systems:
        return []
    categories = list(
        dict.fromkeys(part.category for s in systems for part in s.result.points if part.category is not None)
    )
    if len(categories) > MOST_COLUMNS:
        categories = []  # each has its rows in the table of categories
    scale = scale_of(POINTS)
    rows = []
    keys: list[list[float | None]] = []
    for system in systems:
        parts = {part.category: part for part in system.result.points}
        whole = parts[None]
        value = scale.text(_share(whole))
        rows.append(
            (
                Cell(system.name),
                *(_points_cell(parts.get(category)) for category in categories),
                _points_cell(whole),
                Cell(value, scale.number(_share(whole) or 0.0) if whole.possible else None),
                Cell(scale.interval(whole.estimate)),
                count(whole.num_graded),
                count(whole.num_ungraded),
                count(whole.num_errors),
            )
        )
        keys.append([*[None] * (len(categories) + 2), _share(whole), *[None] * 4])
    return [
        Table(
            id="points",
            title=say("bank.points_title"),
            columns=(
                say("table.model"),
                *(_category_heading(systems, category, say) for category in categories),
                say("bank.points"),
                say("bank.percent"),
                say("table.interval", level=level_text(evidence.level)),
                say("table.n"),
                say("bank.ungraded"),
                say("table.errors"),
            ),
            rows=tuple(mark_best(rows, keys)),
            notes=(say("bank.points_note"),),
        )
    ]


def bank_part(study: StudyFolder, evidence: Evidence, say: Words) -> Part | None:
    """Points of each category with intervals, who graded, and agreement; None of other tasks."""
    systems = [system for system in evidence.systems if system.result.points]
    if not systems:
        return None
    settings = read_settings(study)
    keys = {system.key for system in systems}
    runs = [run for run in study.runs() if run.done and run.path.name in keys]
    found = rater_agreement(collect_items(runs), all_grades(study), settings, level=evidence.level)
    notes = [
        say("bank.not_graded", system=s.name, n=n) for s in systems if (n := s.result.points[0].num_ungraded)
    ]
    tables = [_category_table(systems, evidence, say), _graders_table(systems, say)]
    if len(found.raters) == 1:
        notes.append(say("bank.one_rater", rater=found.raters[0]))
    if len(found.raters) > 1:
        tables.append(_agreement_table(found, settings, evidence.level, say))
    return Part(id="grading", title=say("bank.part"), notes=tuple(notes), tables=tuple(tables))


def _category_table(systems: Sequence[System], evidence: Evidence, say: Words) -> Table:
    """Every category of every system with n and interval."""
    scale = scale_of(POINTS)
    rows = []
    for system in systems:
        for part in system.result.points:
            rows.append(
                (
                    Cell(system.name),
                    Cell(_category_name(part.category, say)),
                    _points_cell(part),
                    Cell(
                        scale.text(_share(part)), scale.number(_share(part) or 0.0) if part.possible else None
                    ),
                    Cell(scale.interval(part.estimate) if part.estimate else part.reason or MISSING),
                    count(part.num_graded),
                    count(part.num_ungraded),
                )
            )
    return Table(
        id="points-by-category",
        title=say("bank.category_title"),
        columns=(
            say("table.system"),
            say("bank.category"),
            say("bank.points"),
            say("bank.percent"),
            say("table.interval", level=level_text(evidence.level)),
            say("table.n"),
            say("bank.ungraded"),
        ),
        rows=tuple(rows),
        notes=(say("bank.interval_note"),),
        text_columns=frozenset({0, 1}),
    )


def _graders_table(systems: Sequence[System], say: Words) -> Table:
    """Who graded how many answers of each system."""
    graders = sorted({by for system in systems for by in system.result.points[0].by}, key=_kind_order)
    rows = []
    for system in systems:
        whole = system.result.points[0]
        counts = (count(whole.by.get(by, 0)) for by in graders)
        rows.append((Cell(system.name), *counts, count(whole.num_ungraded), count(whole.num_errors)))
    return Table(
        id="graders",
        title=say("bank.graders_title"),
        columns=(
            say("table.system"),
            *(grader_text(by, say) for by in graders),
            say("bank.ungraded"),
            say("table.errors"),
        ),
        rows=tuple(rows),
        notes=(
            say("bank.graders_note"),
            *((say("bank.blind_note"),) if any(by.startswith("people") for by in graders) else ()),
        ),
    )


def _agreement_table(found: RaterAgreement, settings: GradingConfig, level: float, say: Words) -> Table:
    """Pairs of raters, then all of them."""
    rows = [
        (
            Cell(f"{pair.first} – {pair.second}"),
            Cell(say("bank.kappa")),
            *_coefficient_cells(pair.kappa),
            count(pair.num_items),
            count(pair.num_items - pair.num_equal),
        )
        for pair in found.pairs
    ]
    rows.append(
        (
            Cell(say("bank.all_raters")),
            Cell(say("bank.alpha")),
            *_coefficient_cells(found.alpha),
            count(found.num_items),
            count(len(found.disagreements)),
        )
    )
    rule = (
        say("bank.by_mean")
        if settings.disagreement == "mean"
        else say("bank.by_adjudicator", rater=settings.adjudicator)
    )
    num_open = sum(d.settled.share is None for d in found.disagreements)
    return Table(
        id="agreement",
        title=say("bank.agreement_title"),
        columns=(
            say("bank.raters"),
            say("bank.coefficient"),
            say("table.value"),
            say("table.interval", level=level_text(level)),
            say("bank.answers"),
            say("bank.differ"),
        ),
        rows=tuple(rows),
        notes=(
            say("bank.agreement_note"),
            rule,
            *((say("bank.open_note", n=num_open),) if num_open else ()),
        ),
        text_columns=frozenset({0, 1}),
    )


def grader_text(by: str, say: Words) -> str:
    """`people 佐藤, 鈴木` in the report's language."""
    kind, _, names = by.partition(" ")
    return say(GRADERS[kind]) + (f": {names}" if names else "")


def _kind_order(by: str) -> tuple[int, str]:
    return (list(GRADERS).index(by.partition(" ")[0]), by)


def _coefficient_cells(found: Coefficient) -> tuple[Cell, Cell]:
    if found.value is None:
        return Cell(MISSING), Cell(found.reason or MISSING)
    interval = found.interval
    text = f"{interval.low:.2f} – {interval.high:.2f}" if interval else found.reason or MISSING
    return Cell(f"{found.value:.2f}", found.value), Cell(text)


def _share(part: PointsPart) -> float | None:
    """Earned of the graded questions' points; None where none is graded."""
    return part.earned / part.possible if part.possible else None


def _points_cell(part: PointsPart | None) -> Cell:
    """`2.5 / 4`: earned of the points of the graded questions."""
    if part is None or not part.possible:
        return Cell(MISSING)
    return Cell(f"{part.earned:.4g} / {part.possible:.4g}", part.earned)


def _category_name(category: str | None, say: Words) -> str:
    if category is None:
        return say("bank.all")
    return category or say("bank.no_category")


def _category_heading(systems: Sequence[System], category: str, say: Words) -> str:
    """`knowledge (4)`: with the number of questions."""
    sizes = {
        part.num_graded + part.num_ungraded + part.num_errors
        for system in systems
        for part in system.result.points
        if part.category == category
    }
    size = f" ({sizes.pop()})" if len(sizes) == 1 else ""
    return f"{_category_name(category, say)}{size}"
