"""`tenbin bench`: speed and memory on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

bench_app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="7b, 13b, gpt2-13b, gemma-3-270m, tiny, tiny-gpt2 or a folder (repeatable).",
    ),
]
Dtypes = Annotated[
    list[str],
    typer.Option("--dtype", help="Of the frozen weights: bf16, fp8, fp8-both, or nf4 (repeatable)."),
]
Lengths = Annotated[
    Path | None,
    typer.Option(help="Lengths of passages and questions: bench/question_lengths.py makes them."),
]
Cap = Annotated[int | None, typer.Option(help="Hard cap on all that the process holds on the GPU, in MiB.")]
Commit = Annotated[str | None, typer.Option(help="Revision to note, where the source is not in a git tree.")]
Output = Annotated[
    Path | None, typer.Option(help="Also add each line to this file, as JSON.", metavar="FILE.jsonl")
]
Prompts = Annotated[
    list[str],
    typer.Option(
        "--work",
        help="Prompts x tokens + new tokens, 256x512+64; jsquad; or fewshot-2048: the same questions behind"
        " one block of so many tokens (repeatable).",
    ),
]
ValidationShare = Annotated[
    bool,
    typer.Option(
        "--validation-share", help="Also measure training, and what validating an epoch costs beside it."
    ),
]
EpochExamples = Annotated[
    int | None,
    typer.Option(
        help="Examples of that epoch, all questions being validated; without it nine tenths of the questions"
        " are trained and the last tenth is validated."
    ),
]


@bench_app.callback()
def bench() -> None:
    """Measure speed and memory on this machine."""


@bench_app.command()
def train(
    models: Models,
    works: Annotated[
        list[str],
        typer.Option("--work", help="Examples x tokens of a step, 16x256, or jsquad (repeatable)."),
    ],
    dtypes: Dtypes = ["bf16"],  # noqa: B006  (typer copies it)
    lengths: Lengths = None,
    batch: Annotated[int, typer.Option(help="Questions of a step of jsquad.")] = 240,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a row of jsquad; without it what fills the device.")
    ] = None,
    vram_mib: Cap = None,
    steps: Annotated[int, typer.Option(help="Steps of each work; the first two are not counted.")] = 8,
    adapters: Annotated[int, typer.Option(help="Trained at once, each on examples of its own.")] = 1,
    commit: Commit = None,
    output: Output = None,
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


@bench_app.command()
def generate(
    models: Models,
    works: Prompts = [],  # noqa: B006
    dtypes: Dtypes = ["bf16"],  # noqa: B006
    lengths: Lengths = None,
    questions: Annotated[int | None, typer.Option(help="The first of them alone; without it all.")] = None,
    vram_mib: Cap = None,
    runs: Annotated[int, typer.Option(help="Times that all prompts are answered, after a warm-up.")] = 3,
    adapters: Annotated[int, typer.Option(help="In use: 0, or 1 of rank 16.")] = 0,
    most_tokens: Annotated[
        int | None, typer.Option(help="Read at once; without it what fills the device.")
    ] = None,
    most_rows: Annotated[int, typer.Option(help="Answers written at once.")] = 512,
    graphs: Annotated[bool, typer.Option("--graphs/--no-graphs", help="CUDA graphs.")] = True,
    validation_share: ValidationShare = False,
    epoch_examples: EpochExamples = None,
    batch: Annotated[int, typer.Option(help="Questions of a training step.")] = 240,
    steps: Annotated[int, typer.Option(help="Training steps; the first two are not counted.")] = 8,
    commit: Commit = None,
    output: Output = None,
) -> None:
    """How fast prompts are answered and in what memory, on models with random weights.

    Every model is measured in every type with every work. No token ends an answer early, so each has exactly
    its tokens: 5 for a question. Rates are those of the median run.
    """
    from tenbin.bench_generate import Answering
    from tenbin.bench_generate_series import GenerateSeries
    from tenbin.commands_bench import measure_generation

    series = GenerateSeries(
        models=tuple(models),
        works=tuple(works),
        dtypes=tuple(dtypes),
        lengths=lengths,
        questions=questions,
        how=Answering(
            runs=runs, adapters=adapters, most_tokens=most_tokens, most_rows=most_rows, graphs=graphs
        ),
        validation=validation_share,
        epoch_examples=epoch_examples,
        batch_size=batch,
        steps=steps,
        vram_mib=vram_mib,
        commit=commit,
    )
    measure_generation(series, output, console=Console())
