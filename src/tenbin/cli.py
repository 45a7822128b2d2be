"""The command line: parse, call, print. What a command needs is imported when it runs."""

import io
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from tenbin.cli_bench import bench_app
from tenbin.cli_eval import evaluate
from tenbin.cli_grade import grade_app
from tenbin.cli_judge import judge
from tenbin.cli_options import MaxCost, Offline, Overrides, SkipBadRows, StudyFile, overrides_of
from tenbin.errors import Interrupted, TenbinError, UserError

app = typer.Typer(
    name="tenbin",
    help="Weigh Japanese LLMs on your own data, on the GPU you have.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
metrics_app = typer.Typer(help="List and verify metric definitions.", no_args_is_help=True)
app.add_typer(metrics_app, name="metrics")
app.add_typer(grade_app, name="grade")
app.add_typer(bench_app, name="bench")
app.command()(judge)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tenbin {version('tenbin')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Weigh Japanese LLMs on your own data, on the GPU you have."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path(),
    preset: Annotated[
        Literal["plain", "marc-ja", "jsquad", "xlsum", "question-bank"],
        typer.Option(help="The paper's settings for its three tasks, the article's bank, or a plain start."),
    ] = "plain",
) -> None:
    """Write a commented study.toml and a few sample rows."""
    from tenbin.init import write_study

    for path in write_study(folder, preset):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: put your own rows and model in, then: tenbin plan {folder / 'study.toml'}")


@app.command()
def inspect(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Also write tables and charts as one HTML file.")
    ] = None,
) -> None:
    """Read the data: row errors, lengths, balance, duplicates, leaks, cut rows."""
    from tenbin.commands import inspect_study

    inspect_study(
        study,
        overrides_of(overrides, skip_bad_rows),
        offline=offline,
        json_file=json_file,
        html_file=html_file,
        console=_console(),
    )


@app.command()
def plan(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """What fits: memory by cause, lengths, what is cut, before any weight is loaded."""
    from tenbin.commands import plan_study

    plan_study(study, overrides_of(overrides, skip_bad_rows), offline=offline, console=_console())


@app.command()
def run(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
    max_cost: MaxCost = None,
) -> None:
    """The main job: inspect, plan, fine-tune, evaluate, report. The same command goes on where it stopped."""
    from tenbin.commands import run_study

    run_study(study, overrides_of(overrides, skip_bad_rows, max_cost), offline=offline, console=_console())


app.command("eval")(evaluate)


@app.command()
def rag(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
    max_cost: MaxCost = None,
    runs: Annotated[
        list[str],
        typer.Option("--run", help="Ask this run (repeatable); without it those that the report weighs."),
    ] = [],  # noqa: B006  (typer copies it)
) -> None:
    """RAG fitness: ask the study's questions inside long texts, with and without their answer."""
    from tenbin.commands import rag_study

    changes = overrides_of(overrides, skip_bad_rows, max_cost)
    rag_study(study, changes, runs=runs, offline=offline, console=_console())


@app.command()
def contamination(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Whether the base models seem to know the questions' choices in their printed order."""
    from tenbin.commands import hint_study

    hint_study(study, overrides_of(overrides, skip_bad_rows), offline=offline, console=_console())


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Study folders; the report of several is written into the first one.", metavar="FOLDER..."
        ),
    ],
    layout: Annotated[
        Literal["full", "paper", "article"],
        typer.Option(
            help="The whole report, the paper's tables only, or the article's: points by model and category."
        ),
    ] = "full",
    language: Annotated[Literal["en", "ja"], typer.Option(help="Of the report.")] = "en",
    workbook: Annotated[Path | None, typer.Option("--xlsx", help="Also write the tables as XLSX.")] = None,
) -> None:
    """Write report.html and report.md again from the runs in a study folder, or in several."""
    from tenbin.commands import report_study

    report_study(folders, layout, language, workbook=workbook, console=_console())


@app.command()
def prices() -> None:
    """Print tenbin's price file for hosted models, to correct: tenbin prices > prices.toml"""
    from tenbin.generate.hosted import shipped_prices

    print(shipped_prices(), end="")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo works.")] = Path("tenbin-demo"),
    model: Annotated[str | None, typer.Option(help="Another model: hub name, folder or .gguf file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the model's licence without asking.")] = False,
    fetch_only: Annotated[bool, typer.Option("--fetch-only", help="Only get the model ready.")] = False,
) -> None:
    """The main job on sample data and a small real model, on a CPU, in a few minutes."""
    from tenbin.demo import prepare_model, run_demo

    if fetch_only:
        prepare_model(accept=yes, console=_console())
    else:
        run_demo(folder, model, accept=yes, console=_console())


@metrics_app.command("list")
def list_metrics(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of docs/guide/metrics.md.")
    ] = False,
) -> None:
    """Every metric: id, name, definition with tokenizer and dictionary."""
    from tenbin.commands import metrics_markdown, show_metrics

    if markdown:
        print(metrics_markdown(), end="")
    else:
        show_metrics(_console())


@metrics_app.command("verify")
def verify_metrics(
    file: Annotated[Path, typer.Argument(help="A file of the schema metric-vectors/1.")],
) -> None:
    """Compare every metric with expected values; exit code 1 on any difference."""
    from tenbin.commands import verify

    raise typer.Exit(verify(file, _console()))


def _console() -> Console:
    return Console()


def main() -> None:
    """Entry point: errors raised on purpose become a message and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Japanese text on a terminal that cannot show it
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        num = len(error.problems)
        heading = "1 problem" if num == 1 else f"{num} problems"
        print(f"tenbin: {heading}\n{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except TenbinError as error:
        print(f"tenbin: {error}\nRun the same command again to go on.", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer has turned a Ctrl-C within a command into this exit code already, without a word.
        if isinstance(stop, SystemExit) and stop.code != Interrupted.exit_code:
            raise
        print(
            "tenbin: stopped; what is finished is kept.\nRun the same command again to go on.",
            file=sys.stderr,
        )
        sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    main()
