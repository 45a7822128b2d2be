"""`tenbin judge`: a model grades answers to a question bank."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def judge(
    path: Annotated[
        Path, typer.Argument(help="A study file with its judges, or a study folder.", metavar="STUDY")
    ],
    model: Annotated[
        str | None, typer.Option(help="The judge: hub name, folder, .gguf file, openai:NAME, http://...")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Short name of the judge.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Judgements of each answer.")] = None,
    chat: Annotated[
        bool | None, typer.Option("--chat/--no-chat", help="Use a local model's chat template.")
    ] = None,
    pairs: Annotated[
        bool | None, typer.Option("--pairs", help="Also compare every two systems side by side.")
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option(help="Stop before hosted judges cost more.", metavar="MONEY")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Let a model grade answers to a question bank, and say how far people agree with it."""
    from tenbin.commands_judge import judge_answers
    from tenbin.errors import ConfigError, Problem

    options: dict[str, Any] = {"name": name, "repeats": repeats, "chat": chat, "pairs": pairs}
    given = {key: value for key, value in options.items() if value is not None}
    if model is None and given:
        found = f"--{next(iter(given))} is of a judge that --model names"
        raise ConfigError(Problem(where="judge", found=found, remedy="add --model, or edit the [[judge]]"))
    judge_answers(
        path,
        None if model is None else {"source": model, **given},
        {},
        max_cost=max_cost,
        offline=offline,
        console=Console(),
    )
