"""Cross entropy as a Triton kernel, its gradient in the logits' place."""

# fmt: off

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.norm_kernels import warps_of


@triton.jit
def _cross_entropy_kernel(
    logits, labels, scales, losses, stride, V: tl.constexpr, BLOCK: tl.constexpr, SLOPES: tl.constexpr
):
    """One row: -log p of its label; in place, the logits become the scaled gradient."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    n = tl.arange(0, BLOCK)
    base = logits + row * stride
    largest = float("-inf")
    total = 0.0
    for start in range(0, V, BLOCK):
        x = tl.load(base + start + n, mask=start + n < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(x - higher), 0)
        largest = higher
    log_z = largest + tl.log(total)
    hit = tl.load(base + label).to(tl.float32)
    tl.store(losses + row, log_z - hit)
    if SLOPES:
        scale = tl.load(scales + row).to(tl.float32)
        for start in range(0, V, BLOCK):
            x = tl.load(base + start + n, mask=start + n < V, other=0.0).to(tl.float32)
            p = tl.exp(x - log_z)
            p = tl.where(start + n == label, p - 1, p) * scale
            tl.store(base + start + n, p.to(logits.dtype.element_ty), mask=start + n < V)


def cross_entropy_(logits: Tensor, labels: Tensor, scales: Tensor | None) -> Tensor:
    """(n, V) -> losses (n,) in float32; with `scales` the logits become their scaled gradient."""
    losses = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    block = min(8192, triton.next_power_of_2(logits.shape[1]))
    _cross_entropy_kernel[(logits.shape[0],)](
        logits, labels, scales if scales is not None else losses, losses, logits.stride(0), logits.shape[1],
        block, scales is not None, num_warps=warps_of(block),
    )
    return losses
