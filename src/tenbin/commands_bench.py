"""`tenbin bench` as functions: measure, and show each figure as soon as it is known."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tenbin.bench_generate_series import GenerateSeries, run_generation
from tenbin.bench_record import append_line
from tenbin.bench_series import Series, run_series

WHAT = ("model", "work", "type", "adapters")
TRAIN_FIGURES = {
    "tokens_per_s": ("tokens /s", ",.0f"),
    "examples_per_s": ("examples /s", ",.2f"),
    "planned_mib": ("planned MiB", ",.0f"),
    "corrected_mib": ("corrected MiB", ",.0f"),
    "peak_mib": ("peak MiB", ",.0f"),
    "mfu": ("MFU", ".3f"),
    "roof_tflops": ("roof TFLOP/s", ",.4g"),
}
"""Column and format of each key of a line."""
GENERATE_FIGURES = {
    "examples_per_s": ("examples /s", ",.2f"),
    "tokens_per_s": ("new tokens /s", ",.0f"),
    "prompt_tokens_per_s": ("prompt tokens /s", ",.0f"),
    "planned_mib": ("planned MiB", ",.0f"),
    "peak_mib": ("peak MiB", ",.0f"),
    "mfu": ("MFU", ".3f"),
    "roof_tflops": ("roof TFLOP/s", ",.4g"),
    "validation_share": ("of an epoch", ".1%"),
}
UNKNOWN = "-"
Figures = Mapping[str, tuple[str, str]]


def measure_training(series: Series, output: Path | None, *, console: Console) -> None:
    """`tenbin bench train`: a table that grows on a terminal; lines, then the table, elsewhere.

    Raises:
        UserError: what was asked for cannot be measured; nothing was built.
        StorageError: `output` cannot be written.
    """
    _show(run_series(series), TRAIN_FIGURES, output, console)


def measure_generation(series: GenerateSeries, output: Path | None, *, console: Console) -> None:
    """`tenbin bench generate`, shown and refused as `measure_training` does."""
    figures = GENERATE_FIGURES
    if not series.validation:
        figures = {key: shown for key, shown in figures.items() if key != "validation_share"}
    _show(run_generation(series), figures, output, console)


def _show(
    found: Iterable[Mapping[str, Any]], figures: Figures, output: Path | None, console: Console
) -> None:
    columns = (*WHAT, *(name for name, _ in figures.values()))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number > 2 else "left")
    reasons: list[str] = []
    live = Live(table, console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext():
        for line in found:
            if output is not None:
                append_line(output, dict(line))
            cells = row(line, figures)
            table.add_row(*cells)
            if "reason" in line:
                reasons.append(f"{' '.join(cells[:3])}: {line['reason']}")
            if live is not None:
                live.refresh()
            else:
                pairs = zip(columns, cells, strict=True)
                _say(console, ", ".join(f"{name} {cell}" for name, cell in pairs))
    if live is None:
        console.print(table)
    for reason in reasons:
        _say(console, reason)
    if output is not None:
        _say(console, f"added to {output}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def row(line: Mapping[str, Any], figures: Figures = TRAIN_FIGURES) -> list[str]:
    """The cells of a line, in the order of WHAT and the figures; `-` for what was not measured."""
    cells = [
        UNKNOWN if line.get(key) is None else format(line[key], shown) for key, (_, shown) in figures.items()
    ]
    return [line["model"], line["work"], line["dtype"], str(line["adapters"]), *cells]
