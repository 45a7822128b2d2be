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
    """(T, H, Dh) output and (T, H) logarithms of sums; `offsets` of the runs of queries and of keys.

    Causal runs end together: n queries behind m keys are the last n of the m positions.
    """
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = torch.empty_like(q)
    log_sum = torch.empty(q.shape[:2], dtype=wide)
    for rows, columns in zip(pairwise(offsets[0]), pairwise(offsets[1]), strict=True):
        n, m = rows[1] - rows[0], columns[1] - columns[0]
        first = columns[0]
        if causal and n == 1 and window is not None:  # what one query sees has no gaps
            first = max(first, columns[1] - window)
        span = slice(first, columns[1])
        whole = n == m and (window is None or m <= window)
        mask = None if not causal or whole or n == 1 else _mask(n, m, window, q.dtype)
        run = _causal if causal and n > 1 and whole else _grouped
        part, part_sum = run(q[slice(*rows)], k[span], v[span], mask, scale)
        out[slice(*rows)], log_sum[slice(*rows)] = part, part_sum
    return out, log_sum


def _causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """One run of as many queries as keys."""
    assert mask is None
    groups = q.shape[1] // k.shape[1]
    out, log_sum = aten._scaled_dot_product_flash_attention_for_cpu(
        _rows(q), repeated(k, groups), repeated(v, groups), 0.0, True, scale=scale
    )
    return out[0].transpose(0, 1), log_sum[0].t()


def _grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """One run: the heads of queries that share keys stand as queries one after another; no key is copied."""
    n, heads, d = q.shape
    groups = heads // k.shape[1]
    folded = torch.unflatten(q, 1, (-1, groups)).transpose(0, 1).reshape(1, -1, n * groups, d)
    out, log_sum = aten._scaled_dot_product_flash_attention_for_cpu(
        folded,
        _rows(k),
        _rows(v),
        0.0,
        False,
        attn_mask=None if mask is None else mask.repeat_interleave(groups, dim=0),
        scale=scale,
    )
    part = out[0].view(-1, n, groups, d).transpose(0, 1).reshape(n, heads, d)
    return part, log_sum[0].view(-1, n, groups).transpose(0, 1).reshape(n, heads)


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


def hidden_keys(num_queries: int, num_keys: int, window: int | None, device: torch.device) -> Tensor:
    """(n, m) bool: what each query may not see, where the queries are the last n of m positions."""
    position = torch.arange(num_keys, device=device)
    distance = position[num_keys - num_queries :, None] - position[None, :]
    hidden = distance < 0
    return hidden if window is None else hidden | (distance >= window)


@lru_cache(maxsize=2)
def _mask(num_queries: int, num_keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """(n, m) to add to the scores of causal attention to the last `window` positions; None = no limit.

    Kept: every layer of a pack asks for the same.
    """
    hidden = hidden_keys(num_queries, num_keys, window, torch.device("cpu"))
    return torch.zeros(num_queries, num_keys, dtype=dtype).masked_fill_(hidden, -torch.inf)


def _window_mask(length: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
    """(T, T) of a window that hides some of a run of T positions; None where it hides nothing."""
    return None if window is None or length <= window else _mask(length, length, window, dtype)
