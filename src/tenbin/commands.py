"""What the commands do with a console: call the public functions and print what they give."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tenbin.config import read_study
from tenbin.errors import DataError, MissingExtra, Problem
from tenbin.report import (
    build_report,
    inspection_html,
    paper_tables,
    recommendation_text,
    write_report,
    write_workbook,
)
from tenbin.runs import StudyFolder, write_json, write_text
from tenbin.terminal import TerminalScreen, inspection_lines, inspection_tables, plan_table


def need_training() -> None:
    """Refuse to go on without the extra that fine-tunes and loads models.

    Raises:
        MissingExtra: with the line that installs it.
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            Problem(
                where="this command",
                found=f"{', '.join(missing)} not installed",
                remedy='pip install "tenbin[train]"',
            )
        )


def run_study(study: Path, overrides: Mapping[str, Any], *, offline: bool, console: Console) -> Path:
    """`tenbin run`."""
    need_training()
    from tenbin.study.run import run_study as run

    result = run(study, overrides=overrides, offline=offline, screen=TerminalScreen(console))
    print_outcome(result.folder, console)
    return result.report


def print_outcome(folder: Path, console: Console) -> None:
    """The recommendation and where the report is."""
    console.print()
    console.print(recommendation_text(StudyFolder(folder)), markup=False, highlight=False)
    path = folder / "report.html"
    console.print(f"\nReport: {path}", markup=False, highlight=False, soft_wrap=True)


def plan_study(study: Path, overrides: Mapping[str, Any], *, offline: bool, console: Console) -> None:
    """`tenbin plan`."""
    need_training()
    from tenbin.study.run import plan_file

    plans = plan_file(study, overrides, offline=offline, screen=TerminalScreen(console))
    console.print(plan_table({"models": [plan.to_json() for plan in plans]}))


def inspect_study(
    study: Path,
    overrides: Mapping[str, Any],
    *,
    offline: bool,
    json_file: Path | None,
    html_file: Path | None,
    console: Console,
) -> None:
    """`tenbin inspect`."""
    from tenbin.study.inspecting import inspect_file

    inspection = inspect_file(study, dict(overrides), offline=offline, screen=TerminalScreen(console))
    for table in inspection_tables(inspection):
        console.print(table)
    for line in inspection_lines(inspection):
        console.print(line, markup=False, highlight=False)
    if json_file is not None:
        write_json(json_file, inspection.to_json())
        console.print(f"wrote {json_file}", markup=False, highlight=False, soft_wrap=True)
    if html_file is not None:
        write_text(html_file, inspection_html(inspection, read_study(study, overrides).name))
        console.print(f"wrote {html_file}", markup=False, highlight=False, soft_wrap=True)


def report_study(
    folder: Path,
    layout: Literal["full", "paper"],
    language: Literal["en", "ja"],
    *,
    workbook: Path | None,
    console: Console,
) -> None:
    """`tenbin report`.

    Raises:
        DataError: where the folder is no study's.
    """
    study = StudyFolder(folder)
    if not (folder / "data.json").exists() and not study.runs():
        found = "this is not a study folder" if folder.is_dir() else "there is no such folder"
        remedy = "name the folder that `tenbin run` wrote (it holds data.json and runs)"
        raise DataError(Problem(where=str(folder), found=found, remedy=remedy))
    if layout == "paper":
        for table in paper_tables(study):
            print(table.to_markdown())
        return
    console.print(
        f"wrote {write_report(study, language=language)}", markup=False, highlight=False, soft_wrap=True
    )
    if workbook is not None:
        write_workbook(build_report(study, language=language), workbook)
        console.print(f"wrote {workbook}", markup=False, highlight=False, soft_wrap=True)


def show_metrics(console: Console) -> None:
    """`tenbin metrics list`."""
    from rich.table import Table

    from tenbin.tasks.metrics import list_metrics

    table = Table("id", "name", "definition", show_lines=False)
    for row in list_metrics():
        table.add_row(row.id, row.name, row.definition)
    console.print(table)


def metrics_markdown() -> str:
    """`tenbin metrics list --markdown`: the table of docs/guide/metrics.md."""
    from tenbin.tasks.metrics import list_metrics

    rows = [
        f"| `{row.id}` | {row.name} | {row.definition.replace('|', chr(92) + '|')} |"
        for row in list_metrics()
    ]
    return "\n".join(["| id | name | definition |", "| --- | --- | --- |", *rows]) + "\n"


def verify(file: Path, console: Console) -> int:
    """`tenbin metrics verify`: the exit code."""
    from tenbin.vectors import verify as verify_file

    rows = verify_file(file)
    for row in rows:
        console.print(f"{row.metric:32} {row.agreed}/{row.total}", markup=False, highlight=False)
        for difference in row.differences:
            console.print(f"    {difference}", markup=False, highlight=False, soft_wrap=True)
    agreed, total = sum(r.agreed for r in rows), sum(r.total for r in rows)
    console.print(f"{'all':32} {agreed}/{total}", markup=False, highlight=False)
    return 0 if agreed == total else 1
