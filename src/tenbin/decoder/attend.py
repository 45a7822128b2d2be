"""Attention over a packed row, forward and backward: each segment with itself, branches with their prefix.

A branch's attention is the sum of two: causal over its own segment and whole over the shared prefix. Both
are computed by the same kernels and joined by their logarithms of sums, which is exact; the backward pass of
flash attention takes the joined output and sum, and so gives each part its exact gradient (the identity that
ring attention rests on). Nothing is T x T, no mask is built, and no kernel is compiled for a layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tenbin.decoder import cpu_attention, plain_attention
from tenbin.decoder.joining import Rows, add_rows_, merge_
from tenbin.decoder.layout import Layout
from tenbin.decoder.pack import placed

aten: Any = torch.ops.aten
CUDNN_FROM = 1024
"""A row of one segment at least so long goes to cuDNN: it is faster, but makes a plan for every length."""
CUDNN_STEP = 128
"""Such rows should be padded to a multiple of this, so that few plans are made."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Pairs of runs of queries and keys: the i-th run of queries meets the i-th run of keys."""

    queries: tuple[int, ...]
    """Offsets, one more than there are runs; the first need not be 0."""
    keys: tuple[int, ...]
    cumulative_queries: Tensor  # (runs + 1,) int32
    cumulative_keys: Tensor  # (runs + 1,) int32
    longest_queries: int
    """Tokens of the longest run of queries."""
    longest_keys: int

    @property
    def query_rows(self) -> Rows:
        """Tokens of all runs of queries."""
        return Rows(self.queries[0], self.queries[-1], self.cumulative_queries)

    @property
    def key_rows(self) -> Rows:
        """Tokens of all runs of keys."""
        return Rows(self.keys[0], self.keys[-1], self.cumulative_keys)

    @classmethod
    def make(cls, queries: tuple[int, ...], keys: tuple[int, ...], device: torch.device) -> "Spans":
        """Offsets, and the same on the device."""
        a = placed(torch.tensor(queries, dtype=torch.int32), device)
        b = a if keys == queries else placed(torch.tensor(keys, dtype=torch.int32), device)
        return cls(queries, keys, a, b, longest_run(queries), longest_run(keys))


@dataclass(frozen=True, slots=True)
class Plan:
    """A layout as the kernels take it: made once a pack, used in every layer."""

    own: Spans
    across: Spans | None = None
    """Branches against their prefixes, at the tokens where they stand in the row."""
    longest_shared: int = 0
    """Tokens of the longest prefix with its longest branch."""

    @classmethod
    def make(cls, layout: Layout, device: torch.device) -> "Plan":
        """The layout's spans on the device."""
        own = Spans.make(layout.offsets, layout.offsets, device)
        if not layout.branches:
            return cls(own)
        return cls(own, Spans.make(*layout.across(), device), layout.longest_shared())


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention gave, and what its backward pass needs."""

    out: Tensor  # (T, H, Dh)
    log_sum: Tensor  # (T, H) float32 or float64
    random_state: tuple[Any, ...] = ()
    """cuDNN's own; nothing is dropped."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, plan: Plan, *, scale: float, window: int | None
) -> Attended:  # q (T, H, Dh), k and v (T, Hkv, Dh)
    """Causal attention in every segment, and of branches to their prefixes.

    Args:
        window: a token sees itself and the window - 1 positions before it; None = all before it.
    """
    if plan.across is None and _takes_cudnn(q, plan.own, window):
        return _cudnn(q, k, v, scale)
    out, log_sum = _forward(q, k, v, plan.own, scale=scale, causal=True, window=window)
    if plan.across is not None:
        assert window is None or plan.longest_shared <= window, "a window would cut a shared prefix"
        other, other_sum = _forward(q, k, v, plan.across, scale=scale, causal=False, window=None)
        merge_(out, log_sum, other, other_sum, plan.across.query_rows)
    return Attended(out, log_sum)


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Attended,
    plan: Plan,
    *,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v from that of the output, (T, H, Dh)."""
    if attended.random_state:
        return _cudnn_backward(grad, q, k, v, attended, scale)
    out, log_sum = attended.out, attended.log_sum
    dq, dk, dv = _backward(grad, q, k, v, out, log_sum, plan.own, scale=scale, causal=True, window=window)
    if plan.across is not None:
        more = _backward(grad, q, k, v, out, log_sum, plan.across, scale=scale, causal=False, window=None)
        rows = (plan.across.query_rows, plan.across.key_rows, plan.across.key_rows)
        for total, part, there in zip((dq, dk, dv), more, rows, strict=True):
            add_rows_(total, part, there)
    return dq, dk, dv


def _forward(
    q: Tensor, k: Tensor, v: Tensor, spans: Spans, *, scale: float, causal: bool, window: int | None
) -> tuple[Tensor, Tensor]:
    """(T, H, Dh) output and (T, H) logarithms of sums."""
    if (kernel := without_flash(q)) is not None:
        offsets = (spans.queries, spans.keys)
        found: tuple[Tensor, Tensor] = kernel.forward(
            q, k, v, offsets, scale=scale, causal=causal, window=window
        )
        return found
    out, log_sum, *_ = aten._flash_attention_forward(
        q,
        k,
        v,
        spans.cumulative_queries,
        spans.cumulative_keys,
        spans.longest_queries,
        spans.longest_keys,
        0.0,
        causal,
        False,
        scale=scale,
        **_flash_window(window, spans),
    )
    return out, log_sum.t()  # flash attention keeps (H, T)


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sum: Tensor,
    spans: Spans,
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    if (kernel := without_flash(q)) is not None:
        offsets = (spans.queries, spans.keys)
        found: tuple[Tensor, Tensor, Tensor] = kernel.backward(
            grad, q, k, v, out, log_sum, offsets, scale=scale, causal=causal, window=window
        )
        return found
    unused = torch.empty(0, dtype=torch.uint64, device=q.device)
    grads: tuple[Tensor, Tensor, Tensor] = aten._flash_attention_backward(
        grad.contiguous(),
        q,
        k,
        v,
        out,
        log_sum.t().contiguous(),
        spans.cumulative_queries,
        spans.cumulative_keys,
        spans.longest_queries,
        spans.longest_keys,
        0.0,
        causal,
        torch.zeros(2, dtype=torch.uint64, device=q.device),
        unused,
        scale=scale,
        **_flash_window(window, spans),
    )
    return grads


def without_flash(q: Tensor) -> ModuleType | None:
    """What serves tensors that PyTorch's flash attention for GPUs (Ampere or newer, 16 bits) does not."""
    if not q.is_cuda:
        return cpu_attention
    half = q.dtype in (torch.bfloat16, torch.float16)
    flash = half and q.shape[-1] <= 256 and torch.cuda.get_device_capability(q.device)[0] >= 8
    return None if flash else plain_attention


def _flash_window(window: int | None, spans: Spans) -> dict[str, int]:
    if window is None or spans.longest_queries <= window:
        return {}
    return {"window_size_left": window - 1, "window_size_right": 0}


def longest_run(offsets: Sequence[int]) -> int:
    """Tokens of the longest of the runs between these offsets."""
    return max(b - a for a, b in pairwise(offsets))


# --- cuDNN, for a row of one long segment ---


def _takes_cudnn(q: Tensor, spans: Spans, window: int | None) -> bool:
    one_long = len(spans.queries) == 2 and spans.queries[-1] >= CUDNN_FROM
    hopper = q.is_cuda and torch.cuda.get_device_capability(q.device)[0] >= 9  # it is faster there
    return hopper and one_long and window is None and q.shape[-1] <= 128 and q.dtype == torch.bfloat16


def _rows(x: Tensor) -> Tensor:
    """(T, H, Dh) -> (1, H, T, Dh), a view."""
    return x.transpose(0, 1)[None]


def _cudnn(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Attended:
    out, log_sum, *_, seed, offset, _ = aten._scaled_dot_product_cudnn_attention(
        _rows(q), _rows(k), _rows(v), None, True, 0.0, True, False, scale=scale
    )
    return Attended(out[0].transpose(0, 1), log_sum, (seed, offset))


def _cudnn_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Attended, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    length = q.shape[0]
    seed, offset = attended.random_state
    dq, dk, dv = aten._scaled_dot_product_cudnn_attention_backward(
        _rows(grad),
        _rows(q),
        _rows(k),
        _rows(v),
        _rows(attended.out),
        attended.log_sum,
        seed,
        offset,
        None,
        None,
        None,
        length,
        length,
        0.0,
        True,
        scale=scale,
    )
    return dq[0].transpose(0, 1), dk[0].transpose(0, 1), dv[0].transpose(0, 1)
