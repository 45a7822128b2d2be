"""Attention run by run with its T x T weights in memory: where flash attention lacks the GPU or type.

The same arguments and results as the flash kernels of `attend`, so that parts of one softmax can be joined:
the backward pass takes the joined output and logarithm of sums.

    p = exp(q k^T scale - log_sum),  out = p v
    dv = p^T g,  ds = p * (g v^T - sum(g * out)) * scale,  dq = ds k,  dk = ds^T q

Source: Dao et al. 2022 (arXiv 2205.14135), appendix B.2.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from tenbin.decoder.cpu_attention import Offsets, hidden_keys, repeated, summed
from tenbin.decoder.pointwise import wide


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
    out = torch.empty_like(q)
    log_sum = torch.empty(q.shape[:2], dtype=wide(q[:0]).dtype, device=q.device)
    groups = q.shape[1] // k.shape[1]
    for rows, columns in _runs(offsets):
        scores = _scores(q[rows], k[columns], scale=scale, causal=causal, window=window)
        sums = scores.logsumexp(dim=-1)  # (H, n)
        weights = (scores - sums[..., None]).exp_()
        out[rows] = (weights @ wide(_heads(v[columns], groups))).transpose(0, 1).to(q.dtype)
        log_sum[rows] = sums.t()
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
    for rows, columns in _runs(offsets):
        scores = _scores(q[rows], k[columns], scale=scale, causal=causal, window=window)
        weights = (scores - log_sum[rows].t()[..., None]).exp_()
        g = wide(_heads(grad[rows], 1))  # (H, n, Dh)
        delta = (g * wide(_heads(out[rows], 1))).sum(-1, keepdim=True)
        slopes = weights * (g @ wide(_heads(v[columns], groups)).transpose(1, 2) - delta) * scale
        dq[rows] = (slopes @ wide(_heads(k[columns], groups))).transpose(0, 1).to(q.dtype)
        dk[columns] = summed((slopes.transpose(1, 2) @ wide(_heads(q[rows], 1)))[None], groups).to(k.dtype)
        dv[columns] = summed((weights.transpose(1, 2) @ g)[None], groups).to(v.dtype)
    return dq, dk, dv


def _runs(offsets: tuple[Offsets, Offsets]) -> Iterator[tuple[slice, slice]]:
    for rows, columns in zip(pairwise(offsets[0]), pairwise(offsets[1]), strict=True):
        yield slice(*rows), slice(*columns)


def _heads(x: Tensor, groups: int) -> Tensor:
    """(T, Hkv, Dh) -> (H, T, Dh)."""
    return repeated(x, groups)[0]


def _scores(q: Tensor, k: Tensor, *, scale: float, causal: bool, window: int | None) -> Tensor:
    """(H, n, m), wide; what may not be seen is -inf."""
    scores = wide(_heads(q, 1)) @ wide(_heads(k, q.shape[1] // k.shape[1])).transpose(1, 2) * scale
    if causal:
        scores.masked_fill_(hidden_keys(q.shape[0], k.shape[0], window, q.device), -torch.inf)
    return scores
