"""Multiprocessors: how many a GPU has, and the memory of one that a program can have."""

from dataclasses import dataclass
from functools import lru_cache

import torch

LARGE = 220 << 10
"""Bytes that data centres' GPUs have from Hopper on; others have 99 KiB, or 163."""


@dataclass(frozen=True, slots=True)
class Multiprocessors:
    """Of one GPU."""

    count: int
    shared_bytes: int
    """That one program can have."""

    @property
    def large(self) -> bool:
        """Whether the largest tiles fit."""
        return self.shared_bytes >= LARGE


@lru_cache
def multiprocessors(device: torch.device) -> Multiprocessors:
    """Of a GPU; four large ones where kernels are interpreted."""
    if device.type != "cuda":
        return Multiprocessors(4, LARGE)
    from triton.runtime import driver  # not there on every machine without a GPU

    found = driver.active.utils.get_device_properties(device.index)
    return Multiprocessors(found["multiprocessor_count"], found["max_shared_mem"])
