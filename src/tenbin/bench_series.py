"""Series: models x types x works, measured one after another on this machine, a line each.

A model is built once for all its works. What does not fit is a line too, with the reason and no figures.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenbin.bench import TrainBench
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
from tenbin.bench_works import QUESTIONS, Work, questions, rows
from tenbin.decoder.shortage import is_shortage
from tenbin.device import Device, find_device
from tenbin.errors import BudgetError, ConfigError, Problem, UserError
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH
from tenbin.models.shape import ModelShape

_ROWS = re.compile(r"[1-9]\d*x[1-9]\d*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is to be measured."""

    models: tuple[str, ...]
    """Known sizes (`tenbin.bench_sizes`) or model folders."""
    works: tuple[str, ...]
    """`16x256` (examples x tokens) or `jsquad`."""
    dtypes: tuple[str, ...] = ("bf16",)
    """Keys of `tenbin.bench_models.BASES`."""
    lengths: Path | None = None
    """Of `jsquad`, see `tenbin.bench.read_lengths`."""
    batch_size: int = 240
    """Questions of a step of `jsquad`."""
    micro_batch_tokens: int | None = None
    """Of a row of `jsquad`; None: what fills the device."""
    vram_mib: int | None = None
    steps: int = 8
    adapters: int = 1
    """Trained at once, each on examples of its own."""
    commit: str | None = None
    """Of the source, where its folder is no git tree."""


def run_series(series: Series) -> Iterator[dict[str, Any]]:
    """Measure; a JSON-able line as soon as it is known.

    Raises:
        UserError: everything that is wrong with what is asked for, before anything is built.
    """
    device = find_device()
    works = _works(series, device)
    return _lines(series, device, works, device.cap(series.vram_mib))


def _lines(
    series: Series, device: Device, works: Mapping[str, Sequence[Work]], cap: int | None
) -> Iterator[dict[str, Any]]:
    same = origin(device, series.vram_mib, series.commit)

    def of_model(model: str, dtype: str, bench: TrainBench | None) -> Iterator[dict[str, Any]]:
        who = {"bench": "train", "system": "tenbin", "model": Path(model).name}
        for work in works[model]:
            line = who | {"work": work.name, "dtype": dtype, "adapters": series.adapters}
            line |= {"batch_size": work.batch_size, "micro_batch_tokens": work.most_tokens}
            found = _nothing(DOES_NOT_FIT)
            if bench is not None:
                found = _measured(bench, work, series)
            yield line | found | line | same  # in this order of keys, our name of the model

    return each_model(series.models, series.dtypes, device, cap, of_model)


def _measured(bench: TrainBench, work: Work, series: Series) -> dict[str, Any]:
    try:
        found = bench.measure(work, steps=series.steps, adapters=series.adapters)
    except BudgetError as error:
        return _nothing(error.problems[0].found)
    except RuntimeError as error:  # before the first step, which gives up what it can
        if not is_shortage(error):
            raise
        return _nothing(str(error).splitlines()[0])
    if not math.isfinite(found["loss"]):
        notes = [found["note"]] if "note" in found else []
        return found | {"loss": None, "note": "; ".join([*notes, "the loss is not a number"])}
    return found


def _nothing(reason: str) -> dict[str, Any]:
    rates = ("tokens_per_s", "examples_per_s", "step_s", "mfu", "roof_tflops")
    memory = ("planned_mib", "predicted_mib", "probed_mib", "corrected_mib", "peak_mib")
    return dict.fromkeys((*rates, *memory)) | no_memory(reason)


def _works(series: Series, device: Device) -> dict[str, list[Work]]:
    """The works of each model; all problems at once."""
    problems = _option_problems(series)
    shapes, unknown = read_shapes(series.models)
    problems += unknown
    found: dict[str, list[Work]] = {}
    for model, shape in shapes.items() if not problems else ():
        try:
            found[model] = [_work(name, shape, series, device) for name in series.works]
        except UserError as error:
            problems += error.problems
            continue
        longest = max(len(e) for work in found[model] for e in work.examples)
        problems += position_problems(model, shape, longest)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _option_problems(series: Series) -> list[Problem]:
    checks = [
        *model_checks(series.models, series.works),
        (series.steps > WARM_UP, "--steps", f"{series.steps}; the first {WARM_UP} are warm-up", "take more"),
        (series.adapters > 0, "--adapters", f"{series.adapters}", "take 1 or more"),
        (series.batch_size > 0, "--batch", f"{series.batch_size}", "take 1 or more"),
        (
            series.micro_batch_tokens is None or series.micro_batch_tokens > 0,
            "--micro-batch-tokens",
            f"{series.micro_batch_tokens}",
            "take 1 or more",
        ),
        (
            QUESTIONS not in series.works or series.lengths is not None,
            "--lengths",
            f"{QUESTIONS} needs the lengths of its questions",
            "make a file with bench/question_lengths.py",
        ),
    ]
    checks += [*dtype_checks(series.dtypes), *cap_checks(series.vram_mib)]
    checks += [
        (
            name == QUESTIONS or _ROWS.fullmatch(name) is not None,
            "--work",
            f"{name!r} is neither {QUESTIONS} nor examples x tokens",
            "write it as 16x256",
        )
        for name in series.works
    ]
    return problems_of(checks)


def _work(name: str, shape: ModelShape, series: Series, device: Device) -> Work:
    if name != QUESTIONS:
        return rows(name, shape.vocab_size)
    assert series.lengths is not None
    filled = GPU_MICRO_BATCH if device.kind == "cuda" else CPU_MICRO_BATCH
    return questions(
        series.lengths,
        most_tokens=series.micro_batch_tokens or filled,
        batch_size=series.batch_size,
        vocabulary=shape.vocab_size,
    )
