"""The models of a bench: each in each type of weights, built once for all its works, one after another."""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tenbin.bench import TrainBench
from tenbin.bench_record import revision, versions
from tenbin.bench_sizes import model_sizes
from tenbin.decoder.base_types import missing_package
from tenbin.device import Device
from tenbin.errors import Problem, UserError
from tenbin.memory import BaseType
from tenbin.models.shape import ModelShape

BASES: dict[str, BaseType] = {"bf16": "same", "fp8": "fp8", "fp8-both": "fp8-both", "nf4": "nf4"}
"""The types of frozen weights, as they are asked for and as the plan has them."""

Lines = Iterator[dict[str, Any]]
OfModel = Callable[[str, str, TrainBench | None], Lines]
"""(model, key of BASES, what was built or None where it does not fit the device) -> its lines."""


def each_model(
    models: Sequence[str], dtypes: Sequence[str], device: Device, cap: int | None, lines: OfModel
) -> Lines:
    """The lines of every model in every type; never are two models in memory."""
    for model in models:
        for dtype in dtypes:
            gc.collect()  # the model before
            if device.kind == "cuda":
                torch.cuda.empty_cache()
            yield from lines(model, dtype, _built(model, device, BASES[dtype], cap))


def _built(model: str, device: Device, base: BaseType, cap: int | None) -> TrainBench | None:
    try:
        return TrainBench.build(model, device, base=base, cap_bytes=cap)
    except torch.OutOfMemoryError:
        return None


def no_memory(reason: str) -> dict[str, str]:
    """Why there are no figures."""
    return {"reason": f"out of memory: {reason}"}


DOES_NOT_FIT = "the model does not fit"


def origin(device: Device, vram_mib: int | None, commit: str | None) -> dict[str, Any]:
    """What all lines of a process say of where they come from."""
    return {
        "cap_mib": vram_mib if device.kind == "cuda" else None,
        "gpu": device.name,
        "versions": versions(),
        "commit": commit or revision(),
    }


def problems_of(checks: Sequence[tuple[bool, str, str, str]]) -> list[Problem]:
    """Of checks that did not hold: (whether it does, where, what was found, what to do)."""
    return [Problem(where=w, found=f, remedy=r) for fine, w, f, r in checks if not fine]


def model_checks(models: Sequence[str], works: Sequence[str]) -> list[tuple[bool, str, str, str]]:
    """That something is named to be measured."""
    return [
        (bool(models), "--model", "none is named", "name a size or a model folder"),
        (bool(works), "--work", "none is named", "name one, such as 1x4096"),
    ]


def dtype_checks(dtypes: Sequence[str]) -> list[tuple[bool, str, str, str]]:
    """That every type is known, and what it needs is installed."""
    checks = [(dtype in BASES, "--dtype", repr(dtype), f"choose of {', '.join(BASES)}") for dtype in dtypes]
    for dtype in dtypes:
        package = missing_package(BASES[dtype]) if dtype in BASES else None
        found, remedy = f"{dtype} needs {package}, which is not installed", f'pip install "tenbin[{dtype}]"'
        checks.append((package is None, "--dtype", found, remedy))
    return checks


def cap_checks(vram_mib: int | None) -> list[tuple[bool, str, str, str]]:
    """Of the cap that was asked for, whether there is a GPU or not."""
    there = vram_mib is None or vram_mib > 0
    return [(there, "--vram-mib", f"{vram_mib}", "take more than 0, or leave it out for all the GPU has")]


def read_shapes(models: Sequence[str]) -> tuple[dict[str, ModelShape], list[Problem]]:
    """The sizes of each model, and what is wrong with the others."""
    shapes: dict[str, ModelShape] = {}
    problems: list[Problem] = []
    for model in models:
        try:
            shapes[model] = ModelShape.read(model_sizes(model))
        except UserError as error:
            problems += error.problems
    return shapes, problems


def position_problems(model: str, shape: ModelShape, longest: int) -> list[Problem]:
    """Whether the model has as many positions as the longest text has tokens."""
    if longest <= shape.max_positions:
        return []
    text = f"{longest} tokens; {model} has {shape.max_positions} positions"
    return [Problem(where="--work", found=text, remedy="choose shorter examples")]
