"""The part on RAG fitness: scores by length and depth, and what is said where the text has no answer."""

from collections import Counter

from tenbin.rag.contexts import Condition
from tenbin.rag.result import Figure, RagResult
from tenbin.rag.store import current_results
from tenbin.report.advice import level_text
from tenbin.report.charts import Chart
from tenbin.report.evidence import Evidence, read_evidence
from tenbin.report.part import Part
from tenbin.report.ragcharts import Named, absent_chart, curve_chart, heat_chart
from tenbin.report.table import Cell, Table
from tenbin.report.text import MISSING, Scale, p_text, scale_of, share_text
from tenbin.report.words import Words
from tenbin.runs import StudyFolder


def rag_part(study: StudyFolder, evidence: Evidence, say: Words) -> Part | None:
    """What the latest `tenbin rag` found; None where there was none."""
    results = current_results(study)
    if not results:
        return None
    names = {system.key: system.name for system in evidence.systems}
    found: Named = {names.get(key, result.system): result for key, result in results.items()}
    first = next(iter(found.values()))
    charts = (curve_chart(found, say), heat_chart(found, say), absent_chart(found, say))
    tables = (
        _length_table(found, say),
        _depth_table(found, say),
        _absent_table(found, say),
        _impossible_table(first, say),
        _error_table(found, say),
    )
    return Part(
        id="rag",
        title=say("rag.title"),
        notes=_notes(first, say),
        charts=tuple(chart for chart in charts if isinstance(chart, Chart)),
        tables=tuple(table for table in tables if table is not None),
    )


def rag_text(study: StudyFolder) -> str:
    """The tables of the latest `tenbin rag` as Markdown, for the terminal; "" where there was none."""
    say = Words("en")
    part = rag_part(study, read_evidence(study, say), say)
    return "\n".join(table.to_markdown() for table in part.tables) if part else ""


def length_text(length: int, say: Words) -> str:
    """A length as tables and charts name it."""
    return f"{length:,}" if length else say("rag.alone")


def _notes(result: RagResult, say: Words) -> tuple[str, ...]:
    settings = result.settings
    near = "rag.near" if settings.get("distractors") == "near" else "rag.any"
    return (
        say("rag.intro", n=result.num_questions, passages=f"{settings.get('num_passages', 0):,}"),
        say(near),
        say("rag.template", template=str(settings.get("template", ""))),
        say("rag.words_only"),
    )


def _length_table(found: Named, say: Words) -> Table:
    first = next(iter(found.values()))
    scale = scale_of(first.metric)
    rows = []
    for name, result in found.items():
        drops = {drop.length: drop for drop in result.drops}
        for length in result.lengths:
            condition: Condition = "present" if length else "alone"
            score = result.find("score", condition, length)
            if score is None:
                continue
            drop = drops.get(length)
            number = scale.number(score.estimate.value) if score.estimate else None
            kinds = ("reference", "says_absent", "other", "nowhere")
            shares = [result.find(kind, condition, length) for kind in kinds]
            rows.append(
                (
                    Cell(name),
                    Cell(length_text(length, say), float(length)),
                    Cell(scale.text(score.estimate.value) if score.estimate else score.reason or "", number),
                    Cell(scale.interval(score.estimate)),
                    Cell(scale.signed(drop.difference) if drop else MISSING),
                    Cell(p_text(drop.p_adjusted).removeprefix("= ") if drop else MISSING),
                    *(_share(figure) for figure in shares),
                    Cell(str(score.num_asked), float(score.num_asked)),
                    Cell(str(score.num_errors), float(score.num_errors)),
                )
            )
    return Table(
        id="rag-length",
        title=say("rag.length_table", metric=first.metric_name, level=level_text(first.level)),
        columns=(
            say("table.system"),
            say("rag.length"),
            first.metric_name,
            say("table.interval", level=level_text(first.level)),
            say("rag.drop"),
            say("table.p_adjusted"),
            say("rag.reference"),
            say("rag.says_absent"),
            say("rag.other"),
            say("rag.nowhere"),
            say("rag.texts"),
            say("table.errors"),
        ),
        rows=tuple(rows),
        notes=(say("rag.drop_note"), say("rag.outcome_note")),
    )


def _share(figure: Figure | None) -> Cell:
    if figure is None or figure.estimate is None:
        return Cell(MISSING)
    return Cell(share_text(figure.estimate.value), round(100 * figure.estimate.value, 4))


def _depth_table(found: Named, say: Words) -> Table | None:
    first = next(iter(found.values()))
    scale = scale_of(first.metric)
    depths = sorted({f.depth for r in found.values() for f in r.figures if f.depth is not None})
    if not depths:
        return None
    rows = []
    for name, result in found.items():
        for length in result.lengths:
            cells = [result.find("score", "present", length, depth) for depth in depths]
            if any(cells):
                rows.append(
                    (
                        Cell(name),
                        Cell(length_text(length, say), float(length)),
                        *(_score_cell(cell, scale) for cell in cells),
                    )
                )
    return Table(
        id="rag-depth",
        title=say("rag.depth_table", metric=first.metric_name, level=level_text(first.level)),
        columns=(say("table.system"), say("rag.length"), *(f"{depth:.0%}" for depth in depths)),
        rows=tuple(rows),
        notes=(say("rag.depth_note"),),
    )


def _score_cell(figure: Figure | None, scale: Scale) -> Cell:
    """`81.20 (64.00 – 91.30)`; a dash where there is none."""
    if figure is None or figure.estimate is None:
        return Cell(MISSING)
    value = figure.estimate.value
    return Cell(f"{scale.text(value)} ({scale.interval(figure.estimate)})", scale.number(value))


def _absent_table(found: Named, say: Words) -> Table | None:
    first = next(iter(found.values()))
    rows = []
    for name, result in found.items():
        for length in result.lengths:
            figure = result.find("says_absent", "absent", length)
            if figure is None:
                continue
            interval = (
                f"{share_text(figure.estimate.low)} – {share_text(figure.estimate.high)}"
                if figure.estimate
                else figure.reason or MISSING
            )
            rows.append(
                (
                    Cell(name),
                    Cell(length_text(length, say), float(length)),
                    _share(figure),
                    Cell(interval),
                    _share(result.find("other", "absent", length)),
                    _share(result.find("nowhere", "absent", length)),
                    Cell(str(figure.num_asked), float(figure.num_asked)),
                    Cell(str(figure.num_errors), float(figure.num_errors)),
                )
            )
    if not rows:
        return None
    return Table(
        id="rag-absent",
        title=say("rag.absent_table"),
        columns=(
            say("table.system"),
            say("rag.length"),
            say("rag.says_absent"),
            say("table.interval", level=level_text(first.level)),
            say("rag.other"),
            say("rag.nowhere"),
            say("rag.texts"),
            say("table.errors"),
        ),
        rows=tuple(rows),
        notes=(say("rag.absent_note"),),
    )


def _impossible_table(result: RagResult, say: Words) -> Table | None:
    counts = Counter((item.length, item.condition, item.reason) for item in result.impossible)
    if not counts:
        return None
    return Table(
        id="rag-impossible",
        title=say("rag.impossible_table"),
        columns=(say("rag.length"), say("rag.with_answer"), say("data.number"), say("data.what")),
        rows=tuple(
            (
                Cell(length_text(length, say), float(length)),
                Cell(say("table.yes") if condition == "present" else MISSING),
                Cell(str(number), float(number)),
                Cell(reason),
            )
            for (length, condition, reason), number in sorted(counts.items())
        ),
        text_columns=frozenset({0, 1, 3}),
    )


def _error_table(found: Named, say: Words) -> Table | None:
    rows = [
        (Cell(name), Cell(str(number), float(number)), Cell(error))
        for name, result in found.items()
        for error, number in result.errors.items()
    ]
    if not rows:
        return None
    return Table(
        id="rag-errors",
        title=say("rag.error_table"),
        columns=(say("table.system"), say("data.number"), say("data.what")),
        rows=tuple(rows),
        text_columns=frozenset({0, 2}),
    )
