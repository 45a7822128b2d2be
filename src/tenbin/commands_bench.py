"""`tenbin bench` as functions: measure, and show each figure as soon as it is known."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tenbin.bench_record import append_line
from tenbin.bench_series import Series, run_series

COLUMNS = (
    "model",
    "work",
    "type",
    "adapters",
    "tokens /s",
    "examples /s",
    "planned MiB",
    "peak MiB",
    "MFU",
    "roof TFLOP/s",
)
UNKNOWN = "-"


def measure_training(series: Series, output: Path | None, *, console: Console) -> None:
    """`tenbin bench train`: a table that grows on a terminal; lines, then the table, elsewhere.

    Raises:
        UserError: what was asked for cannot be measured; nothing was built.
        StorageError: `output` cannot be written.
    """
    table = Table(box=None, padding=(0, 1, 0, 0))
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number > 2 else "left")
    reasons: list[str] = []
    found = run_series(series)
    live = Live(table, console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext():
        for line in found:
            if output is not None:
                append_line(output, line)
            cells = row(line)
            table.add_row(*cells)
            if "reason" in line:
                reasons.append(f"{' '.join(cells[:3])}: {line['reason']}")
            if live is not None:
                live.refresh()
            else:
                pairs = zip(COLUMNS, cells, strict=True)
                _say(console, ", ".join(f"{name} {cell}" for name, cell in pairs))
    if live is None:
        console.print(table)
    for reason in reasons:
        _say(console, reason)
    if output is not None:
        _say(console, f"added to {output}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def row(line: Mapping[str, Any]) -> list[str]:
    """The cells of a line, in the order of COLUMNS; `-` for what was not measured."""
    formats = {
        "tokens_per_s": ",.0f",
        "examples_per_s": ",.2f",
        "planned_mib": ",.0f",
        "peak_mib": ",.0f",
        "mfu": ".3f",
        "roof_tflops": ",.4g",
    }
    figures = [UNKNOWN if line[key] is None else format(line[key], shown) for key, shown in formats.items()]
    return [line["model"], line["work"], line["dtype"], str(line["adapters"]), *figures]
