"""What is needed to resume a run, written so that a crash leaves the last whole checkpoint in place.

A checkpoint is a folder `step-NNNNNNN` with `tensors.safetensors` and `state.json`. It is written under
another name, flushed to the disk and then renamed, so every folder of that name is whole. The older one
goes only after that.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tenbin.runs import storage
from tenbin.types import JsonValue

BEFORE = "-before"
"""Ends the name of an older checkpoint of the same step, there until the newer one is."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, JsonValue]
) -> None:
    """Write the checkpoint of `step` and remove the ones before it.

    Raises:
        StorageError: where the disk is full; the last checkpoint stays whole.
    """
    final = folder / f"step-{step:07d}"
    before = folder / f"{final.name}{BEFORE}"
    temporary = folder / f".writing-{os.getpid()}"
    try:
        with storage(folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _save({name: t.contiguous() for name, t in tensors.items()}, temporary / "tensors.safetensors")
            (temporary / "state.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
            for path in temporary.iterdir():
                _flush(path)
            if final.exists():  # the same step again, and maybe the only one: it goes when this one is there
                shutil.rmtree(before, ignore_errors=True)
                final.rename(before)
            temporary.rename(final)
            _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _whole(folder):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None where there is none."""
    whole = _whole(folder)
    if not whole:
        return None
    newest = whole[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(load_file(newest / "tensors.safetensors"), state)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # it wraps the system's error without its number
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _whole(folder: Path) -> list[Path]:
    return sorted(
        folder.glob("step-*"),
        key=lambda path: (path.name.removesuffix(BEFORE), not path.name.endswith(BEFORE)),
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
