"""ReportData: everything the report shows, made once and rendered as HTML, Markdown or a workbook."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tenbin.report import charts, tables
from tenbin.report.advice import Advice, advise
from tenbin.report.bank import bank_part, points_tables
from tenbin.report.charts import Chart
from tenbin.report.contamination import contamination_part
from tenbin.report.datapart import DataPart, data_part
from tenbin.report.differences import Direction, differing
from tenbin.report.evidence import Evidence, read_evidence
from tenbin.report.hosted import hosted_tables
from tenbin.report.judging import judge_cautions, judge_part
from tenbin.report.paper import tables_of
from tenbin.report.part import Part
from tenbin.report.rag import rag_part
from tenbin.report.recommendation import Recommendation, recommend
from tenbin.report.table import Table, words
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """One report, in one language."""

    words: Words
    title: str
    written: str
    evidence: Evidence
    recommendation: Recommendation
    advice: Advice
    paper: tuple[Table, ...]
    systems: Table | None
    """The headline of every system; None where no run is finished."""
    more: tuple[Table, ...]
    """Every pair, metric, definition and cost."""
    problems: tuple[Table, ...]
    """Runs without a result and results left out."""
    forest: Chart | None
    curves: tuple[Chart, ...]
    parts: tuple[Part, ...]
    """Sections that are there only where something of their kind was done: RAG fitness, judging."""
    data: DataPart
    directions: tuple[Direction, ...]
    settings: tuple[Table, ...]
    template: str | None
    study_text: str


def build_report(study: StudyFolder, *, language: Language = "en", now: datetime | None = None) -> ReportData:
    """Read a study and work out its report.

    Args:
        study: the folder; any file but the runs may be missing.
        language: of the report's own words.
        now: the date to print, for tests; the clock's without it.
    """
    say = Words(language)
    evidence = read_evidence(study, say)
    found = recommend(evidence)
    some = bool(evidence.systems)
    chosen = found.chosen.key if found.chosen else None
    curves = (charts.loss_chart(evidence, say), charts.validation_chart(evidence, say))
    problems = (tables.incomplete_table(evidence, say), tables.left_out_table(evidence, say))
    date = (now or datetime.now()).strftime("%Y-%m-%d %H:%M")
    template = evidence.data.get("template")
    return ReportData(
        words=say,
        title=say("page.title", name=evidence.name),
        written=say("page.written", date=date),
        evidence=evidence,
        recommendation=found,
        advice=_advice(study, evidence, found, say),
        paper=_first_tables(evidence, say),
        systems=tables.systems_table(evidence, say) if some else None,
        more=(
            tables.comparisons_table(evidence, found, say),
            tables.metrics_table(evidence, say),
            tables.definitions_table(evidence, say),
            tables.costs_table(evidence, say),
            *hosted_tables(evidence, say),
        )
        if some
        else (),
        problems=tuple(table for table in problems if table is not None),
        forest=charts.forest_chart(evidence, say, chosen),
        curves=tuple(chart for chart in curves if chart is not None),
        parts=_parts(study, evidence, say),
        data=data_part(evidence, say),
        directions=tuple(differing(evidence, found)),
        settings=_settings(evidence, say),
        template=_text(template),
        study_text=evidence.study_text,
    )


def _advice(study: StudyFolder, evidence: Evidence, found: Recommendation, say: Words) -> Advice:
    """The advice; a judge that nobody has checked is named first among its cautions."""
    advice = advise(evidence, found, say)
    return replace(advice, cautions=(*judge_cautions(study, evidence, say), *advice.cautions))


def _first_tables(evidence: Evidence, say: Words) -> tuple[Table, ...]:
    """The article's table of a bank, and the paper's of all else: models by learning rates."""
    points = points_tables(evidence, say)
    grid = tables_of(evidence, say) if not points or evidence.of_kind("tuned") else []
    return (*points, *grid)


def _parts(study: StudyFolder, evidence: Evidence, say: Words) -> tuple[Part, ...]:
    makers = (bank_part, judge_part, rag_part, contamination_part)
    return tuple(part for make in makers if (part := make(study, evidence, say)) is not None)


def _text(value: object) -> str | None:
    """A template is a text, or a record with its text."""
    if isinstance(value, Mapping):
        return str(value.get("text") or json.dumps(value, ensure_ascii=False, indent=1))
    return str(value) if value else None


def _settings(evidence: Evidence, say: Words) -> tuple[Table, ...]:
    found = [tables.runs_table(evidence, say)] if evidence.systems else []
    environment = _environment(evidence)
    if environment:
        found.append(
            Table(
                id="environment",
                title=say("table.environment"),
                columns=(say("table.setting"), say("table.value"), say("table.run")),
                rows=tuple(words(*row) for row in environment),
                text_columns=frozenset({0, 1, 2}),
            )
        )
    return tuple(found)


def _environment(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(key, value, runs) of every environment; runs are named only where they differ."""
    by_value: dict[tuple[str, str], list[str]] = {}
    with_one = [s for s in evidence.systems if s.environment]
    for system in with_one:
        for key, value in _flat(system.environment or {}):
            by_value.setdefault((key, value), []).append(system.name)
    return [
        (key, value, "" if len(names) == len(with_one) else ", ".join(names))
        for (key, value), names in sorted(by_value.items())
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping):
            found += _flat(item, name)
        else:
            found.append((name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)))
    return found
