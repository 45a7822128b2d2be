"""`tenbin bench`: speed and memory on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

bench_app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@bench_app.callback()
def bench() -> None:
    """Measure speed and memory on this machine."""


@bench_app.command()
def train(
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            help="7b, 13b, gpt2-13b, gemma-3-270m, tiny, tiny-gpt2 or a folder (repeatable).",
        ),
    ],
    works: Annotated[
        list[str],
        typer.Option("--work", help="Examples x tokens of a step, 16x256, or jsquad (repeatable)."),
    ],
    dtypes: Annotated[
        list[str],
        typer.Option("--dtype", help="Of the frozen weights: bf16, fp8, or fp8-both (repeatable)."),
    ] = ["bf16"],  # noqa: B006  (typer copies it)
    lengths: Annotated[
        Path | None,
        typer.Option(help="Lengths of passages and questions: bench/question_lengths.py makes them."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Questions of a step of jsquad.")] = 240,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a row of jsquad; without it what fills the device.")
    ] = None,
    vram_mib: Annotated[
        int | None, typer.Option(help="Hard cap on all that the process holds on the GPU.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of each work; the first two are not counted.")] = 8,
    adapters: Annotated[int, typer.Option(help="Trained at once, each on examples of its own.")] = 1,
    commit: Annotated[
        str | None, typer.Option(help="Revision to note, where the source is not in a git tree.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Also add each line to this file, as JSON.", metavar="FILE.jsonl")
    ] = None,
) -> None:
    """Training speed and peak memory against the plan, on models with random weights.

    Every model is measured in every type with every work. The peak is that of the whole process: on a CPU it
    only ever rises. MFU is the share of the rate of a large bf16 matrix product, measured in the same run.
    """
    from tenbin.bench_series import Series
    from tenbin.commands_bench import measure_training

    series = Series(
        models=tuple(models),
        works=tuple(works),
        dtypes=tuple(dtypes),
        lengths=lengths,
        batch_size=batch,
        micro_batch_tokens=micro_batch_tokens,
        vram_mib=vram_mib,
        steps=steps,
        adapters=adapters,
        commit=commit,
    )
    measure_training(series, output, console=Console())
