"""Options that several commands share, and what their KEY=VALUE pairs say."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from tenbin.errors import ConfigError, Problem

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

MaxCost = Annotated[
    str | None,
    typer.Option(help='Stop before hosted models cost more in all: "5 USD", "800 JPY".', metavar="MONEY"),
]


def overrides_of(
    pairs: list[str], skip_bad_rows: bool = False, max_cost: str | None = None
) -> dict[str, Any]:
    """`training.epochs=2` -> {"training.epochs": 2}; a value that is not TOML is taken as text."""
    values: dict[str, Any] = {"data.skip_bad_rows": True} if skip_bad_rows else {}
    values |= {"budget.max_cost": max_cost} if max_cost is not None else {}
    for key, text in pairs_of(pairs, "--set").items():
        try:
            values[key] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def pairs_of(pairs: list[str], option: str) -> dict[str, str]:
    """`question=問題` -> {"question": "問題"}."""
    split = [pair.partition("=") for pair in pairs]
    problems = [
        Problem(where=option, found=f"{pair!r} has no =", remedy="write KEY=VALUE")
        for pair, (key, equals, _) in zip(pairs, split, strict=True)
        if not equals or not key
    ]
    if problems:
        raise ConfigError(problems)
    return {key: text for key, _, text in split}
