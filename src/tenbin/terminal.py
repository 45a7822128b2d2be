"""The terminal: progress bars with the time left, and tables of plans, inspections and results."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from tenbin.data.inspection import Inspection
from tenbin.memory import MIB
from tenbin.report.text import share_text
from tenbin.study.screen import Bar

NOTE_CELLS = 12
"""Room for the note behind a bar: `loss 12.345`."""
LINE_EVERY_S = 15.0
"""Between two progress lines where the output is no terminal."""


class TerminalScreen:
    """Shows a study on a terminal; plain lines where the output is no terminal."""

    def __init__(self, console: Console, *, line_every_s: float = LINE_EVERY_S) -> None:
        self.console = console
        self.line_every_s = line_every_s

    def say(self, text: str) -> None:
        """One line of news."""
        self.console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def stage(self, title: str) -> None:
        """A new part of the work begins."""
        self.console.print(f"[bold cyan]{_plain(title)}[/]", highlight=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar with the finished count and an estimate of the time left, on one line of any width."""
        count = 2 * len(str(total)) + 1
        room = self.console.width - len("   ") - count - len(" left 0:00:00 ") - NOTE_CELLS
        bar_cells = min(16, room - cell_len(label) - 1)
        columns: list[ProgressColumn] = [TextColumn("  {task.description}", markup=False)]
        if bar_cells >= 4:
            columns.append(BarColumn(bar_width=bar_cells))
        columns += [
            MofNCompleteColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        progress = Progress(
            *columns,
            console=self.console,
            speed_estimate_period=600,
            disable=not self.console.is_terminal,
        )
        with progress:
            task = progress.add_task(_fitted(label, room), total=total, note="")
            if self.console.is_terminal:
                yield _TerminalBar(progress, task)
            else:
                yield _PlainBar(progress, task, self.console, f"{label}:", unit, self.line_every_s)


def _fitted(label: str, cells: int) -> str:
    """The label, or its end: that is where the learning rate and the part of the work stand."""
    if cell_len(label) <= cells:
        return label
    while label and cell_len(label) >= cells:
        label = label[1:]
    return f"…{label}"


class _TerminalBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress = progress
        self.task = task

    def update(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)


class _PlainBar:
    """A line now and then, and one at the end: for logs."""

    def __init__(
        self, progress: Progress, task: TaskID, console: Console, label: str, unit: str, every_s: float
    ) -> None:
        self.progress = progress
        self.task = task
        self.console = console
        self.label = label
        self.unit = unit
        self.every_s = every_s
        self.shown_at = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done)
        task = self.progress.tasks[0]
        if not task.finished and time.monotonic() - self.shown_at < self.every_s:
            return
        self.shown_at = time.monotonic()
        if task.finished:
            spent = f", {timedelta(seconds=round(task.finished_time or 0))} spent"
        else:
            left = task.time_remaining
            spent = f", {timedelta(seconds=round(left))} left" if left is not None else ""
        note = f", {note}" if note else ""
        line = f"  {self.label} {done:,}/{task.total:,.0f} {self.unit}s{spent}{note}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def plan_tables(plan: Mapping[str, Any]) -> list[Table]:
    """Memory of the local models, calls and money of the hosted ones; whichever there are."""
    local = [model for model in plan["models"] if "terms" in model]
    hosted = [model for model in plan["models"] if "hosted" in model]
    return [table(models) for table, models in ((_memory, local), (_calls, hosted)) if models]


def _calls(models: Sequence[Mapping[str, Any]]) -> Table:
    """What is still to be asked of every hosted model, and what that costs at most."""
    table = Table(
        title="Calls still to be made; answer tokens and cost are the most there can be", title_justify="left"
    )
    table.add_column("", no_wrap=True)
    for model in models:
        table.add_column(model["model"], justify="right")
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "questions": lambda c: f"{c['num_prompts']:,}",
        "answers a question": lambda c: f"{c['repeats']:,}",
        "answers kept already": lambda c: f"{c['num_cached']:,}",
        "calls": lambda c: f"{c['num_calls']:,}",
        "prompt tokens, about": lambda c: f"{c['input_tokens']:,}",
        "answer tokens, at most": lambda c: f"{c['output_tokens']:,}",
        "cost, at most": lambda c: money_text(c["cost"]),
    }
    for name, value in rows.items():
        table.add_row(name, *(value(m["hosted"]) for m in models))
    notes = dict.fromkeys(m["hosted"][key] for m in models for key in ("cost_note", "rule"))
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def money_text(cost: Mapping[str, float] | None) -> str:
    """`$0.0123 (1.8 yen)`."""
    return "not known" if cost is None else f"${cost['usd']:,.4f} ({cost['yen']:,.1f} yen)"


def _memory(models: Sequence[Mapping[str, Any]]) -> Table:
    """The memory plan of every local model, by cause, in MiB."""
    table = Table(title="Memory by cause (MiB), lengths in tokens", title_justify="left")
    table.add_column("", no_wrap=True)
    for model in models:
        table.add_column(model["model"], justify="right")
    for cause in models[0]["terms"]:
        table.add_row(cause.replace("_", " "), *(f"{m['terms'][cause] / MIB:,.0f}" for m in models))
    table.add_section()
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "held at once": lambda m: f"{m['total_bytes'] / MIB:,.0f}",
        "cap": lambda m: "none (CPU)" if m["cap_bytes"] is None else f"{m['cap_bytes'] / MIB:,.0f}",
        "tokens a micro-batch": lambda m: f"{m['most_tokens']:,}",
        "longest that fits": lambda m: f"{m['limit_tokens']:,}",
        "longest allowed": lambda m: f"{m['max_length']:,}",
        "longest prompt allowed": lambda m: f"{m['max_input_tokens']:,}",
        "longest example": lambda m: f"{m['longest_tokens']:,}",
        "tokens an epoch": lambda m: f"{m['num_train_tokens']:,}",
        "training a run, about": lambda m: _duration(m["train_s_per_run"]),
        "left out": lambda m: _counts(m["left_out"]),
        "cut": lambda m: _counts(m["cut"]),
    }
    for name, value in rows.items():
        table.add_row(name, *(value(m) for m in models))
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _counts(by_split: Mapping[str, Any]) -> str:
    return ", ".join(f"{split} {len(ids)}" for split, ids in by_split.items() if ids) or "none"


def inspection_tables(inspection: Inspection) -> list[Table]:
    """Lengths (the paper's Table 4), and what each maximum length would cut."""
    lengths = Table(title="Lengths", title_justify="left")
    for column in ("set", "field", "in", "rows", "mean", "median", "max"):
        lengths.add_column(column, justify="left" if column in ("set", "field", "in") else "right")
    for row in inspection.lengths:
        figures = (f"{row.num:,}", f"{row.mean:,.1f}", f"{row.median:,.0f}", f"{row.max:,}")
        lengths.add_row(row.split, row.field, row.unit, *figures)
    tables = [lengths]
    if inspection.categories:
        balance = Table("set", "category", "rows", "share", title="Categories", title_justify="left")
        for split, counts in inspection.categories.items():
            for category, count in counts.items():
                share = f"{100 * count / sum(counts.values()):.1f} %"
                balance.add_row(split, category, f"{count:,}", share)
        tables.append(balance)
    cutting = [cut for cut in inspection.cuts if cut.rows]
    if cutting:
        cuts = Table(title="Rows longer than a length, and rows left without an answer", title_justify="left")
        for column in ("set", "model", "tokens", "rows", "answers"):
            cuts.add_column(column, justify="left" if column in ("set", "model") else "right")
        for cut in cutting:
            shares = (share_text(cut.rows), share_text(cut.answers))
            cuts.add_row(cut.split, cut.model, f"{cut.max_length:,}", *shares)
        tables.append(cuts)
    return tables


def inspection_lines(inspection: Inspection) -> list[str]:
    """Tokens per character, leaks, findings and notes, a line each."""
    lines = [
        f"{model}: {value:.3f} tokens per character"
        for model, value in inspection.tokens_per_character.items()
    ]
    lines += _nothing_cut(inspection)
    for leak in inspection.leaks:
        places = ", ".join(f"{first} = {second}" for first, second in leak.places)
        lines.append(
            f"leak ({leak.kind}): {leak.num_examples:,} rows of {leak.second} are in {leak.first}: {places}"
        )
    for finding in inspection.findings:
        where = f"{finding.split}: " if finding.split else ""
        places = f" ({', '.join(finding.places)})" if finding.places else ""
        lines.append(f"{where}{finding.kind}: {finding.num:,} {finding.text}{places}")
    return lines + [f"note: {note}" for note in inspection.notes]


def _nothing_cut(inspection: Inspection) -> list[str]:
    """One line for all sets of each model from which a length on nothing is cut."""
    lines = []
    for model in dict.fromkeys(cut.model for cut in inspection.cuts):
        mine = [cut for cut in inspection.cuts if cut.model == model]
        enough = {cut.max_length for cut in mine} - {cut.max_length for cut in mine if cut.rows}
        if enough:
            lines.append(f"{model}: no row is longer than {min(enough):,} tokens")
    return lines
