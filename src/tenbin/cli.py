"""The command line: parse, call, print. What a command needs is imported when it runs."""

import io
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tenbin.errors import ConfigError, Interrupted, Problem, TenbinError, UserError

app = typer.Typer(
    name="tenbin",
    help="Weigh Japanese LLMs on your own data, on the GPU you have.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
metrics_app = typer.Typer(help="List and verify metric definitions.", no_args_is_help=True)
app.add_typer(metrics_app, name="metrics")

StudyFile = Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", help="Set a key of the study: training.epochs=2 (repeatable).", metavar="KEY=VALUE"
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave rows with errors out, count and list them.")
]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path(),
    preset: Annotated[
        Literal["plain", "marc-ja", "jsquad", "xlsum"],
        typer.Option(help="The paper's settings for its three tasks, or a plain start."),
    ] = "plain",
) -> None:
    """Write a commented study.toml and a few sample rows."""
    from tenbin.init import write_study

    for path in write_study(folder, preset):
        typer.echo(f"wrote {path}")


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
        _overrides(overrides, skip_bad_rows),
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

    plan_study(study, _overrides(overrides, skip_bad_rows), offline=offline, console=_console())


@app.command()
def run(
    study: StudyFile,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """The main job: inspect, plan, fine-tune, evaluate, report. The same command goes on where it stopped."""
    from tenbin.commands import run_study

    run_study(study, _overrides(overrides, skip_bad_rows), offline=offline, console=_console())


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A study folder.")],
    layout: Annotated[
        Literal["full", "paper"], typer.Option(help="The whole report, or the paper's tables only.")
    ] = "full",
    language: Annotated[Literal["en", "ja"], typer.Option(help="Of the report.")] = "en",
    workbook: Annotated[Path | None, typer.Option("--xlsx", help="Also write the tables as XLSX.")] = None,
) -> None:
    """Write report.html again from the runs in a study folder."""
    from tenbin.commands import report_study

    report_study(folder, layout, language, workbook=workbook, console=_console())


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


def _overrides(pairs: list[str], skip_bad_rows: bool = False) -> dict[str, Any]:
    """`training.epochs=2` -> {"training.epochs": 2}; a value that is not TOML is taken as text."""
    values: dict[str, Any] = {"data.skip_bad_rows": True} if skip_bad_rows else {}
    problems = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            problems.append(Problem(where="--set", found=f"{pair!r} has no =", remedy="write KEY=VALUE"))
            continue
        try:
            values[key] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    if problems:
        raise ConfigError(problems)
    return values


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
