"""Joining attentions of the same queries over different keys, and adding up the gradients of both."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tenbin.decoder.pointwise import has_kernels, wide


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [start, end) of a tensor; kernels read both from the device, where a CUDA graph finds others."""

    start: int
    end: int
    bounds: Tensor  # (n,) int32: its first is start, its last end


def merge_(
    out: Tensor, log_sum: Tensor, other: Tensor, other_log_sum: Tensor, rows: Rows | None = None
) -> None:
    """Join two attentions of the same queries over different keys, into the first.

    Args:
        out, other: (T, H, Dh), each normalized over its own keys.
        log_sum, other_log_sum: (T, H), logarithms of the sums of exponentials; where `other` saw no key, any
            infinity, and `other` may hold anything.
        rows: those alone; the others of `other` may hold anything. None: all.

    Source: softmax over the union is the mean of both, weighted by their sums (as in flash attention).
    """
    if has_kernels(out):
        from tenbin.decoder import joining_kernels

        joining_kernels.merge_(out, log_sum, other, other_log_sum, rows.bounds if rows else None)
        return
    here = slice(rows.start, rows.end) if rows else slice(None)
    a, b = log_sum[here], other_log_sum[here]
    b = torch.where(b.isinf(), -torch.inf, b)
    total = torch.logaddexp(a, b)
    first, second = (a - total).exp()[..., None], (b - total).exp()[..., None]
    more = torch.where(second > 0, wide(other[here]) * second, 0.0)  # what saw no key may hold anything
    out[here] = (wide(out[here]) * first + more).to(out.dtype)
    log_sum[here] = total


def add_rows_(total: Tensor, part: Tensor, rows: Rows) -> None:
    """total += part, both (T, H, Dh), in some rows alone: the others of `part` may hold anything."""
    if has_kernels(total):
        from tenbin.decoder import joining_kernels

        joining_kernels.add_rows_(total, part, rows.bounds)
    else:
        total[rows.start : rows.end] += part[rows.start : rows.end]
