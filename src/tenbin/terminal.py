"""The terminal: progress bars with the time left, and the tables of an inspection."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

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
