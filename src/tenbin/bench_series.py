"""Series: models x types x works, measured one after another on this machine, a line each.

A model is built once for all its works. What does not fit is a line too, with the reason and no figures.
"""

import gc
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tenbin.bench import TrainBench
from tenbin.bench_record import revision, versions
from tenbin.bench_sizes import model_sizes
from tenbin.bench_steps import WARM_UP
from tenbin.bench_works import QUESTIONS, Work, questions, rows
from tenbin.device import Device, find_device
from tenbin.errors import ConfigError, Problem, UserError
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH, BaseType
from tenbin.models.shape import ModelShape

BASES: dict[str, BaseType] = {"bf16": "same", "fp8": "fp8", "fp8-both": "fp8-both"}
"""The types of frozen weights, as they are asked for and as the plan has them."""
_ROWS = re.compile(r"[1-9]\d*x[1-9]\d*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is to be measured."""

    models: tuple[str, ...]
    """Known sizes (`tenbin.bench_sizes`) or model folders."""
    works: tuple[str, ...]
    """`16x256` (examples x tokens) or `jsquad`."""
    dtypes: tuple[str, ...] = ("bf16",)
    """Keys of BASES."""
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
    same = {
        "cap_mib": series.vram_mib if device.kind == "cuda" else None,
        "gpu": device.name,
        "versions": versions(),
        "commit": series.commit or revision(),
    }
    for model in series.models:
        for dtype in series.dtypes:
            gc.collect()  # the model before
            if device.kind == "cuda":
                torch.cuda.empty_cache()
            who = {"bench": "train", "system": "tenbin", "model": Path(model).name}
            bench = _built(model, device, BASES[dtype], cap)
            for work in works[model]:
                line = who | {"work": work.name, "dtype": dtype, "adapters": series.adapters}
                line |= {"batch_size": work.batch_size, "micro_batch_tokens": work.most_tokens}
                found = _no_memory("the model does not fit")
                if bench is not None:
                    found = _measured(bench, work, series)
                yield line | found | line | same  # in this order of keys, our name of the model
            del bench


def _built(model: str, device: Device, base: BaseType, cap: int | None) -> TrainBench | None:
    """None where it does not fit the device."""
    try:
        return TrainBench.build(model, device, base=base, cap_bytes=cap)
    except torch.OutOfMemoryError:
        return None


def _measured(bench: TrainBench, work: Work, series: Series) -> dict[str, Any]:
    try:
        found = bench.measure(work, steps=series.steps, adapters=series.adapters)
    except torch.OutOfMemoryError as error:
        return _no_memory(str(error).splitlines()[0])
    if not math.isfinite(found["loss"]):
        return found | {"loss": None, "note": "the loss is not a number"}
    return found


def _no_memory(reason: str) -> dict[str, Any]:
    rates = ("tokens_per_s", "examples_per_s", "step_s", "mfu", "planned_mib", "peak_mib", "roof_tflops")
    return {**dict.fromkeys(rates), "reason": f"out of memory: {reason}"}


def _works(series: Series, device: Device) -> dict[str, list[Work]]:
    """The works of each model; all problems at once."""
    problems = _option_problems(series)
    shapes: dict[str, ModelShape] = {}
    for model in series.models:
        try:
            shapes[model] = ModelShape.read(model_sizes(model))
        except UserError as error:
            problems += error.problems
    found: dict[str, list[Work]] = {}
    for model, shape in shapes.items() if not problems else ():
        try:
            found[model] = [_work(name, shape, series, device) for name in series.works]
        except UserError as error:
            problems += error.problems
            continue
        longest = max(len(e) for work in found[model] for e in work.examples)
        if longest > shape.max_positions:
            text = f"{longest} tokens; {model} has {shape.max_positions} positions"
            problems.append(Problem(where="--work", found=text, remedy="choose shorter examples"))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _option_problems(series: Series) -> list[Problem]:
    checks = [
        (bool(series.models), "--model", "none is named", "name a size or a model folder"),
        (bool(series.works), "--work", "none is named", "name one, such as 1x4096"),
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
    checks += [
        (dtype in BASES, "--dtype", repr(dtype), f"choose of {', '.join(BASES)}") for dtype in series.dtypes
    ]
    checks += [
        (
            name == QUESTIONS or _ROWS.fullmatch(name) is not None,
            "--work",
            f"{name!r} is neither {QUESTIONS} nor examples x tokens",
            "write it as 16x256",
        )
        for name in series.works
    ]
    return [Problem(where=w, found=f, remedy=r) for fine, w, f, r in checks if not fine]


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
