"""Attention on a CPU: one call of PyTorch's flash kernel a run of queries and keys, forward and backward."""

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten
Offsets = tuple[int, ...]


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: tuple[Offsets, Offsets],
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """(T, H, Dh) output and (T, H) logarithms of sums; `offsets` of the runs of queries and of keys."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = torch.empty_like(q)
    log_sum = torch.empty(q.shape[:2], dtype=wide)
    groups = q.shape[1] // k.shape[1]
    for rows, columns in zip(pairwise(offsets[0]), pairwise(offsets[1]), strict=True):
        mask = _window_mask(rows[1] - rows[0], window, q.dtype)
        part, part_sum = aten._scaled_dot_product_flash_attention_for_cpu(
            _rows(q[slice(*rows)]),
            repeated(k[slice(*columns)], groups),
            repeated(v[slice(*columns)], groups),
            0.0,
            causal and mask is None,
            attn_mask=mask,
            scale=scale,
        )
        out[slice(*rows)] = part[0].transpose(0, 1)
        log_sum[slice(*rows)] = part_sum[0].t()
    return out, log_sum


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sum: Tensor,
    offsets: tuple[Offsets, Offsets],
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    groups = q.shape[1] // k.shape[1]
    for rows, columns in zip(pairwise(offsets[0]), pairwise(offsets[1]), strict=True):
        mask = _window_mask(rows[1] - rows[0], window, q.dtype)
        parts = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            _rows(grad[slice(*rows)]),
            _rows(q[slice(*rows)]),
            repeated(k[slice(*columns)], groups),
            repeated(v[slice(*columns)], groups),
            _rows(out[slice(*rows)]),
            log_sum[slice(*rows)].t()[None],
            0.0,
            causal and mask is None,
            attn_mask=mask,
            scale=scale,
        )
        dq[slice(*rows)] = parts[0][0].transpose(0, 1)
        dk[slice(*columns)] = summed(parts[1], groups)
        dv[slice(*columns)] = summed(parts[2], groups)
    return dq, dk, dv


def _rows(x: Tensor) -> Tensor:
    """(T, H, Dh) -> (1, H, T, Dh), a view."""
    return x.transpose(0, 1)[None]


def repeated(x: Tensor, groups: int) -> Tensor:
    """(T, Hkv, Dh) -> (1, H, T, Dh): every head of keys or values once for each of its queries' heads."""
    return _rows(x if groups == 1 else x.repeat_interleave(groups, dim=1))


def summed(x: Tensor, groups: int) -> Tensor:
    """(1, H, T, Dh) -> (T, Hkv, Dh): gradients of repeated heads, added up."""
    rows = x[0].transpose(0, 1)  # (T, H, Dh)
    return rows if groups == 1 else torch.unflatten(rows, 1, (-1, groups)).sum(2)


@lru_cache(maxsize=2)
def _window_mask(length: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
    """(T, T) to add to the scores of causal attention to the last `window` positions; None = no limit.

    Kept: every layer of a pack asks for the same.
    """
    if window is None or length <= window:
        return None
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]
    hidden = (distance < 0) | (distance >= window)
    return torch.zeros(length, length, dtype=dtype).masked_fill_(hidden, -torch.inf)
