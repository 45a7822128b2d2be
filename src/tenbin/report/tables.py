"""The report's other tables: every system, metric and pair, what each run cost, what has no result."""

from collections.abc import Mapping
from typing import Any

from tenbin.report.advice import level_text
from tenbin.report.comparisons import Comparison
from tenbin.report.evidence import Evidence, System
from tenbin.report.paper import chosen_text
from tenbin.report.recommendation import Recommendation
from tenbin.report.table import Cell, Table, mark_best, words
from tenbin.report.text import MISSING, Scale, scale_of, seconds_text
from tenbin.report.words import Words


def systems_table(evidence: Evidence, say: Words) -> Table:
    """The headline score of every system with n, its interval, errors and unparsed answers."""
    scale = scale_of(evidence.headline)
    rows = [_system_row(system, evidence, scale, say) for system in evidence.systems]
    keys = [
        [system.value(evidence.headline) if column == 3 else None for column in range(9)]
        for system in evidence.systems
    ]
    metric = evidence.headline_name + (" (%)" if scale.percent else "")
    chosen = sorted({s.run.selected_on for s in evidence.systems if s.run and s.run.selected_on})
    on = say.split(chosen[0].split()[0]) if chosen else say.split("validation")
    return Table(
        id="systems",
        title=say("table.systems"),
        columns=(
            say("table.system"),
            say("table.epoch"),
            say("table.chosen_score", chosen=on),
            f"{metric}, {say.split(evidence.split)}",
            say("table.interval", level=level_text(evidence.level)),
            say("table.n"),
            say("table.errors"),
            say("table.unparsed"),
            say("table.weighed"),
        ),
        rows=tuple(mark_best(rows, keys)),
    )


def _system_row(system: System, evidence: Evidence, scale: Scale, say: Words) -> tuple[Cell, ...]:
    summary = next((m for m in system.result.metrics if m.metric == evidence.headline), None)
    estimate = summary.estimate if summary else None
    selection = system.selection_score(evidence.headline)
    return (
        Cell(system.name),
        epoch_cell(system),
        Cell(scale.text(selection), scale.number(selection) if selection is not None else None),
        Cell(
            scale.text(estimate.value if estimate else None),
            scale.number(estimate.value) if estimate else None,
        ),
        Cell(scale.interval(estimate)),
        count(estimate.n if estimate else None),
        count(system.result.num_errors),
        count(system.result.num_unparsed),
        Cell(say("table.yes") if system.finalist else ""),
    )


def epoch_cell(system: System) -> Cell:
    """`2 of 3`: the chosen epoch and how many there were."""
    if system.run is None or system.run.best_epoch is None:
        return Cell(MISSING)
    return Cell(f"{system.run.best_epoch} / {len(system.run.epochs)}", system.run.best_epoch)


def metrics_table(evidence: Evidence, say: Words) -> Table:
    """Every metric of every system."""
    rows = []
    for system in evidence.systems:
        for summary in system.result.metrics:
            scale, estimate = scale_of(summary.metric), summary.estimate
            name = summary.name + (" (%)" if scale.percent else "")
            value = Cell(
                scale.text(estimate.value if estimate else None),
                scale.number(estimate.value) if estimate else None,
            )
            how = estimate.method if estimate else summary.reason or MISSING
            cells = (
                value,
                Cell(scale.interval(estimate)),
                count(estimate.n if estimate else None),
                Cell(how),
            )
            rows.append((Cell(system.name), Cell(name), *cells))
    keys = ("system", "metric", "value")
    return Table(
        id="metrics",
        title=say("table.all_metrics"),
        columns=(
            *(say(f"table.{key}") for key in keys),
            say("table.interval", level=level_text(evidence.level)),
            say("table.n"),
            say("table.method"),
        ),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 5}),
    )


def definitions_table(evidence: Evidence, say: Words) -> Table:
    """What each metric is, once."""
    known = {m.metric: (m.name, m.definition) for s in evidence.systems for m in s.result.metrics}
    return Table(
        id="definitions",
        title=say("table.definitions"),
        columns=(say("table.metric"), "id", say("table.definition")),
        rows=tuple(words(name, metric, definition) for metric, (name, definition) in known.items()),
        text_columns=frozenset({0, 1, 2}),
    )


def comparisons_table(evidence: Evidence, found: Recommendation, say: Words) -> Table:
    """Every pair that was tested, the closest calls of the chosen or best system first."""
    lead = found.chosen or found.best
    key = lead.key if lead else ""

    def order(comparison: Comparison) -> tuple[bool, float]:
        return (key not in (comparison.a.key, comparison.b.key), -(comparison.p_adjusted or 0.0))

    methods = sorted({c.method for c in found.comparisons if c.method})
    columns = (
        *("first", "second", "difference", "interval", "better_on", "n"),
        *("p", "p_adjusted", "needed", "reading"),
    )
    return Table(
        id="comparisons",
        title=say("table.comparisons"),
        columns=tuple(
            say("table.interval", level=level_text(evidence.level)) if c == "interval" else say(f"table.{c}")
            for c in columns
        ),
        rows=tuple(
            _pair_row(c, scale_of(evidence.headline), evidence.level, say)
            for c in sorted(found.comparisons, key=order)
        ),
        notes=(say("table.method_note", methods=say.listed(methods) or MISSING), say("table.needed_note")),
        text_columns=frozenset({0, 1, 9}),
    )


def _pair_row(c: Comparison, scale: Scale, level: float, say: Words) -> tuple[Cell, ...]:
    if c.difference is None or c.p_value is None or c.p_adjusted is None:
        blank = [Cell(MISSING)] * 7
        return (
            Cell(c.a.name),
            Cell(c.b.name),
            *blank,
            Cell(f"{say('table.not_tested')}: {c.reason}"),
        )
    if not c.clear(level):
        reading = "not_told"
    else:
        reading = "first_better" if c.difference.value > 0 else "second_better"
    return (
        Cell(c.a.name),
        Cell(c.b.name),
        Cell(scale.signed(c.difference.value), scale.number(c.difference.value)),
        Cell(f"{scale.signed(c.difference.low)} – {scale.signed(c.difference.high)}"),
        Cell(f"{c.only_a:,} : {c.only_b:,}"),
        count(c.n),
        Cell(small_p(c.p_value), c.p_value),
        Cell(small_p(c.p_adjusted), c.p_adjusted),
        count(c.needed),
        Cell(say(f"table.{reading}")),
    )


def small_p(p_value: float) -> str:
    """A p value for a table."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def costs_table(evidence: Evidence, say: Words) -> Table:
    """Time, memory and speed of every finished run."""
    columns = ["system", "train_time", "evaluate_time", "peak", "train_speed", "token_speed", "device"]
    runs = [system.run for system in evidence.systems if system.run is not None]
    probed = any(run.probe is not None for run in runs)
    if probed:
        columns.insert(4, "planned")
    rows = []
    for system in evidence.systems:
        run = system.run
        if run is None:
            continue
        trained = run.train_s > 0
        speed = run.train_examples / run.train_s if trained else None
        tokens = run.train_tokens / run.train_s if trained else None
        rows.append(
            (
                Cell(system.name),
                Cell(seconds_text(run.train_s) if trained else MISSING, run.train_s if trained else None),
                Cell(seconds_text(run.evaluate_s) if run.evaluate_s else MISSING, run.evaluate_s),
                Cell(f"{run.peak_mib / 1024:.2f} GiB" if run.peak_mib else MISSING, run.peak_mib),
                *((_planned(run.probe),) if probed else ()),
                Cell(f"{speed:,.1f}" if speed is not None else MISSING, speed),
                Cell(f"{tokens:,.0f}" if tokens is not None else MISSING, tokens),
                Cell(run.device if run.hosted else f"{run.device}, {run.dtype}"),
            )
        )
    return Table(
        id="costs",
        title=say("table.costs"),
        columns=tuple(say(f"table.{c}") for c in columns),
        rows=tuple(rows),
        text_columns=frozenset({0, len(columns) - 1}),
    )


def _planned(probe: Mapping[str, Any] | None) -> Cell:
    """What the plan says of training, corrected by the measured pass."""
    planned = None if probe is None else probe["planned_mib"]
    return Cell(MISSING if planned is None else f"{planned / 1024:.2f} GiB", planned)


def incomplete_table(evidence: Evidence, say: Words) -> Table | None:
    """Runs without a result; None where every run has one."""
    if not evidence.incomplete:
        return None
    return Table(
        id="incomplete",
        title=say("table.incomplete"),
        columns=tuple(say(f"table.{c}") for c in ("run", "state", "detail")),
        rows=tuple(
            words(run.name, say("table." + run.state.replace(" ", "_")), run.detail or MISSING)
            for run in evidence.incomplete
        ),
        text_columns=frozenset({0, 1, 2}),
    )


def left_out_table(evidence: Evidence, say: Words) -> Table | None:
    """Results that may not be compared; None where all may."""
    if not evidence.left_out:
        return None
    return Table(
        id="left-out",
        title=say("page.left_out"),
        columns=(say("table.run"), say("table.reasons")),
        rows=tuple(words(result.name, "; ".join(result.reasons)) for result in evidence.left_out),
        notes=(say("page.left_out_note"),),
        text_columns=frozenset({0, 1}),
    )


def runs_table(evidence: Evidence, say: Words) -> Table:
    """Folder of every finished run and what chose its epoch."""
    return Table(
        id="runs",
        title=say("table.run_ids"),
        columns=(say("table.system"), "runs/", say("table.chosen_on")),
        rows=tuple(
            words(s.name, s.key, chosen_text(s.run.selected_on or "", say)) for s in evidence.systems if s.run
        ),
        text_columns=frozenset({0, 1, 2}),
    )


def count(value: int | None) -> Cell:
    """A whole number with its thousands apart, or a dash."""
    return Cell(f"{value:,}" if value is not None else MISSING, value)
