"""What the commands do with a console: call the public functions and print what they give."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from tenbin.config import read_study
from tenbin.planboard import further_tables, plan_tables
from tenbin.report import (
    article_tables,
    build_report,
    inspection_html,
    open_folders,
    paper_tables,
    recommendation_text,
    write_report,
    write_workbook,
)
from tenbin.runs import StudyFolder, write_json, write_text
from tenbin.scoreboard import metrics_board, result_lines
from tenbin.terminal import TerminalScreen, inspection_lines, inspection_tables

if TYPE_CHECKING:
    from tenbin.study.evaluating import Options


def run_study(study: Path, overrides: Mapping[str, Any], *, offline: bool, console: Console) -> Path:
    """`tenbin run`."""
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
    from tenbin.study.further import plan_whole

    plan = plan_whole(study, overrides, offline=offline, screen=TerminalScreen(console))
    for table in plan_tables({"models": [model.to_json() for model in plan.models]}):
        console.print(table)
    for table in further_tables(plan.further):
        console.print(table)


def evaluate_model(
    model: str,
    data: str | None,
    *,
    task: str | None,
    name: str | None,
    columns: Mapping[str, str],
    limit: int | None,
    output: Path | None,
    options: "Options",
    console: Console,
) -> None:
    """`tenbin eval`.

    Raises:
        ConfigError: options that do not go together.
    """
    from tenbin.study.evaluating import evaluate_any

    found = evaluate_any(
        model, data, task=task, name=name, columns=columns, limit=limit, output=output, options=options
    )
    console.print()
    console.print(metrics_board(found.results))
    for result, run in zip(found.results, found.runs, strict=True):
        for line in result_lines(result, run):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for run in found.runs:
        console.print(f"answers: {run.path / 'predictions'}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: tenbin report {found.folder}", markup=False, highlight=False, soft_wrap=True)


def rag_study(
    study: Path, overrides: Mapping[str, Any], *, runs: Sequence[str], offline: bool, console: Console
) -> None:
    """`tenbin rag`."""
    from tenbin.report.rag import rag_text
    from tenbin.study.rag import rag_file

    done = rag_file(study, overrides, runs=runs, offline=offline, screen=TerminalScreen(console))
    print(rag_text(StudyFolder(done.folder)))
    console.print(f"Report: {done.report}", markup=False, highlight=False, soft_wrap=True)


def hint_study(study: Path, overrides: Mapping[str, Any], *, offline: bool, console: Console) -> None:
    """`tenbin contamination`."""
    from tenbin.study.contamination import hint_file

    for hint in hint_file(study, overrides, offline=offline, screen=TerminalScreen(console)):
        counts = f"{len(hint.rows):,} questions, {hint.num_skipped:,} not asked, {hint.num_errors:,} errors"
        if hint.share is None:
            console.print(f"{hint.system}: no share: {hint.reason} ({counts})", highlight=False)
            continue
        console.print(
            f"{hint.system}: the printed order of the choices is the likeliest of {hint.num_orders + 1} in"
            f" {hint.share.value:.1%} ({hint.share.low:.1%} to {hint.share.high:.1%}) of the questions;"
            f" {hint.expected:.1%} by chance, p = {hint.p_value:.3g} ({counts})",
            highlight=False,
            soft_wrap=True,
        )


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
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        write_json(json_file, inspection.to_json())
        console.print(f"wrote {json_file}", markup=False, highlight=False, soft_wrap=True)
    if html_file is not None:
        write_text(html_file, inspection_html(inspection, read_study(study, overrides).name))
        console.print(f"wrote {html_file}", markup=False, highlight=False, soft_wrap=True)


def report_study(
    folders: Sequence[Path],
    layout: Literal["full", "paper", "article"],
    language: Literal["en", "ja"],
    *,
    workbook: Path | None,
    console: Console,
) -> None:
    """`tenbin report`.

    Raises:
        DataError: where a folder is no study's.
    """
    study = open_folders(folders)
    if layout != "full":
        for table in paper_tables(study) if layout == "paper" else article_tables(study, language=language):
            print(table.to_markdown())
        return
    path = write_report(study, language=language)
    console.print(
        f"wrote {path} and {path.with_suffix('.md').name}", markup=False, highlight=False, soft_wrap=True
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
