"""`tenbin eval`: one model, adapter or API on one file, or on a study's set."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tenbin.cli_options import MaxCost, Offline, Overrides, SkipBadRows, overrides_of, pairs_of

Model = Annotated[
    str,
    typer.Argument(
        help="Hub name, folder, .gguf file, vllm: before one of these, adapter folder, hosted model"
        " (openai:NAME, azure:DEPLOYMENT, http://HOST/v1#NAME), or a study file.",
        metavar="MODEL|STUDY.toml",
    ),
]


def evaluate(
    model: Model,
    data: Annotated[
        str | None, typer.Argument(help="File of examples; not with a study file.", metavar="[DATA]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification, reading, summarization or question_bank.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "--model", help="Name for tables; of a study, which of its models."),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a LoRA adapter for the model.")] = None,
    with_base: Annotated[
        bool, typer.Option("--with-base", help="With an adapter: also the model without it.")
    ] = False,
    columns: Annotated[
        list[str],
        typer.Option(
            "--column", help="Field of the task = column of the file (repeatable).", metavar="FIELD=COLUMN"
        ),
    ] = [],  # noqa: B006  (typer copies it)
    limit: Annotated[
        int | None, typer.Option(help="Use only so many examples, drawn with a fixed seed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Study folder; runs/eval-DATA without it. Models may share one.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    offline: Offline = False,
    skip_bad_rows: SkipBadRows = False,
    max_cost: MaxCost = None,
    repeats: Annotated[int | None, typer.Option(help="Hosted: ask every question so often.")] = None,
) -> None:
    """Evaluate one model, adapter or API on one file, or on a study's set. The same command goes on."""
    from tenbin.commands import evaluate_model
    from tenbin.study.evaluating import Options
    from tenbin.terminal import TerminalScreen

    console = Console()
    changes = overrides_of(overrides, skip_bad_rows, max_cost)
    if repeats is not None:
        changes["model.0.hosted.repeats"] = repeats
    evaluate_model(
        model,
        data,
        task=task,
        name=name,
        columns=pairs_of(columns, "--column"),
        limit=limit,
        output=output,
        options=Options(
            adapter=adapter,
            with_base=with_base,
            overrides=changes,
            offline=offline,
            screen=TerminalScreen(console),
        ),
        console=console,
    )
