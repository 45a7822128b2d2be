"""Shortage: which errors say that a device has no memory left, however they are raised."""

import torch

_SAID = (
    "out of memory",  # the driver's own, as when a CUDA graph is made ready or memory of the host is locked
    "can't allocate memory",  # a CPU's
    "alloc_failed",  # cuBLAS and cuDNN, beside PyTorch's allocator
    "allocation_failed",
)


def is_shortage(error: BaseException) -> bool:
    """Whether less memory would have helped. PyTorch's allocator has an error of its own, others say it."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)
