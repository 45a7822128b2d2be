"""Recording work as a CUDA graph, so that a failure leaves nothing behind."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def recorded(
    work: Callable[[], Tensor],
    pool: Any,  # noqa: ANN401  (as torch.cuda.graph_pool_handle gives it)
    device: torch.device,
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The graph of what `work` does, and what it gives: written anew whenever the graph is replayed.

    Args:
        pool: where the graph's memory lies.

    Raises:
        RuntimeError: where `is_shortage`, the pool or the driver had no room.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream(device)
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = work()
    except BaseException:
        torch.cuda.set_stream(stream)  # `torch.cuda.graph` does not go back where its own end fails
        raise
    return graph, result
