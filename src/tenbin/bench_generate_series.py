"""Series of generation: models x types x works, measured one after another on this machine, a line each."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering, measure_generation
from tenbin.bench_generate_validation import NAME, Epoch, measure_validation
from tenbin.bench_generate_works import RATES, GenerateWork, generate_work, is_work, needs_lengths
from tenbin.bench_models import (
    DOES_NOT_FIT,
    cap_checks,
    dtype_checks,
    each_model,
    model_checks,
    no_memory,
    origin,
    position_problems,
    problems_of,
    read_shapes,
)
from tenbin.bench_steps import WARM_UP
from tenbin.device import Device, find_device
from tenbin.errors import ConfigError, UserError

_FIGURES = (*RATES, "planned_mib", "peak_mib", "roof_tflops")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSeries:
    """What is to be measured."""

    models: tuple[str, ...]
    """Known sizes (`tenbin.bench_sizes`) or model folders."""
    works: tuple[str, ...] = ()
    """See `tenbin.bench_generate_works`."""
    dtypes: tuple[str, ...] = ("bf16",)
    """Keys of `tenbin.bench_models.BASES`."""
    lengths: Path | None = None
    """Of questions, see `tenbin.bench_works.read_lengths`."""
    questions: int | None = None
    """How many of them; None: all."""
    how: Answering = field(default_factory=Answering)
    validation: bool = False
    """Also what validating an epoch costs beside training it."""
    epoch_examples: int | None = None
    """Trained in the epoch; None: nine tenths of the questions, and the last tenth is validated."""
    batch_size: int = 240
    """Questions of a training step."""
    steps: int = 8
    """Of training, in the same measurement."""
    vram_mib: int | None = None
    commit: str | None = None
    """Of the source, where its folder is no git tree."""


@dataclass(frozen=True, slots=True)
class _Works:
    """Of one model."""

    answered: tuple[GenerateWork, ...]
    epoch: Epoch | None


def run_generation(series: GenerateSeries) -> Iterator[dict[str, Any]]:
    """Measure; a JSON-able line as soon as it is known.

    Raises:
        UserError: everything that is wrong with what is asked for, before anything is built.
    """
    device = find_device()
    works = _works(series, device)
    return _lines(series, device, works, device.cap(series.vram_mib))


def _lines(
    series: GenerateSeries, device: Device, works: dict[str, _Works], cap: int | None
) -> Iterator[dict[str, Any]]:
    same = origin(device, series.vram_mib, series.commit)

    def of_model(model: str, dtype: str, bench: TrainBench | None) -> Iterator[dict[str, Any]]:
        who = {"bench": "generate", "system": "tenbin", "model": Path(model).name}
        answered, epoch = works[model].answered, works[model].epoch
        for work in answered:
            line = who | _said(work, dtype, series.how)
            yield line | _found(bench, work, series.how) | same
        if epoch is not None:
            how = replace(series.how, adapters=1)
            line = who | _said(epoch.held_out, dtype, how)
            yield line | _found(bench, epoch, how, steps=series.steps) | same

    return each_model(series.models, series.dtypes, device, cap, of_model)


def _said(work: GenerateWork, dtype: str, how: Answering) -> dict[str, Any]:
    """What was asked for."""
    return {
        "work": work.name,
        "dtype": dtype,
        "adapters": how.adapters,
        "num_examples": len(work.prompts),
        "prompt_tokens": work.prompt_tokens,
        "distinct_prompt_tokens": work.distinct_tokens,
        "new_tokens": work.new_tokens,
        "most_rows": how.most_rows,
        "runs": how.runs,
    }


def _found(
    bench: TrainBench | None, work: GenerateWork | Epoch, how: Answering, *, steps: int = 0
) -> dict[str, Any]:
    try:
        if bench is None:
            return _nothing(DOES_NOT_FIT)
        if isinstance(work, Epoch):
            return measure_validation(bench, work, how, steps=steps)
        return measure_generation(bench, work, how)
    except torch.OutOfMemoryError as error:
        return _nothing(str(error).splitlines()[0])


def _nothing(reason: str) -> dict[str, Any]:
    return dict.fromkeys(_FIGURES) | no_memory(reason)


def _works(series: GenerateSeries, device: Device) -> dict[str, _Works]:
    """The works of each model; all problems at once."""
    problems = problems_of(_checks(series))
    shapes, unknown = read_shapes(series.models)
    problems += unknown
    found: dict[str, _Works] = {}
    for model, shape in shapes.items() if not problems else ():
        try:
            found[model] = works = _works_of(series, shape.vocab_size, gpu=device.kind == "cuda")
        except UserError as error:
            problems += error.problems
            continue
        longest = max(work.longest for work in works.answered) if works.answered else 0
        if works.epoch is not None:
            longest = max([longest, *(len(example) for example in works.epoch.training.examples)])
        problems += position_problems(model, shape, longest)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _works_of(series: GenerateSeries, vocabulary: int, *, gpu: bool) -> _Works:
    answered = tuple(
        generate_work(name, vocabulary=vocabulary, lengths=series.lengths, count=series.questions)
        for name in series.works
    )
    epoch = None
    if series.validation:
        assert series.lengths is not None
        epoch = Epoch.make(
            series.lengths,
            vocabulary=vocabulary,
            gpu=gpu,
            batch_size=series.batch_size,
            num_trained=series.epoch_examples,
            count=series.questions,
        )
    return _Works(answered, epoch)


def _checks(series: GenerateSeries) -> list[tuple[bool, str, str, str]]:
    how = series.how
    works = (*series.works, *((NAME,) if series.validation else ()))
    asks = [name for name in series.works if needs_lengths(name)]
    if series.validation:
        asks.append("--validation-share")
    numbers = [
        ("--runs", how.runs),
        ("--most-tokens", how.most_tokens),
        ("--most-rows", how.most_rows),
        ("--questions", series.questions),
        ("--epoch-examples", series.epoch_examples),
        ("--batch", series.batch_size),
    ]
    checks = [
        *model_checks(series.models, works),
        *dtype_checks(series.dtypes),
        *cap_checks(series.vram_mib),
        (how.adapters in (0, 1), "--adapters", f"{how.adapters}", "take 0 or 1"),
        (series.steps > WARM_UP, "--steps", f"{series.steps}; the first {WARM_UP} are warm-up", "take more"),
        (
            not asks or series.lengths is not None,
            "--lengths",
            f"{', '.join(asks)} needs the lengths of its questions",
            "make a file with bench/question_lengths.py",
        ),
        (
            series.epoch_examples is None or series.validation,
            "--epoch-examples",
            "there is no epoch without --validation-share",
            "leave it out, or ask for the share",
        ),
    ]
    checks += [
        (number is None or number > 0, where, f"{number}", "take 1 or more") for where, number in numbers
    ]
    checks += [
        (
            is_work(name),
            "--work",
            f"{name!r} is no work of generation",
            "write it as jsquad, 256x512+64 (prompts x tokens + new tokens) or fewshot-2048",
        )
        for name in series.works
    ]
    return checks
