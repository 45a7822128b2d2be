"""Attention over a packed row, forward and backward: each segment with itself, branches with their prefix.

A branch's attention is the sum of two: causal over its own segment and whole over the shared prefix. Rows of
short segments go to kernels of our own that compute both at once (`tree_attention`). For others both are
computed by the same kernels and joined by their logarithms of sums, which is exact; the backward pass of
flash attention takes the joined output and sum, and so gives each part its exact gradient (the identity that
ring attention rests on). Nothing is T x T, no mask is built, and no kernel is compiled for a layout.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tenbin.decoder import cpu_attention, plain_attention, tree_attention
from tenbin.decoder.joining import Rows, add_rows_, merge_
from tenbin.decoder.layout import Layout, longest_run
from tenbin.decoder.pack import placed
from tenbin.decoder.pointwise import heads_gradient

aten: Any = torch.ops.aten
CUDNN_FROM = 1024
"""A row of one segment at least so long goes to cuDNN: it is faster, but makes a plan for every length."""
CUDNN_STEP = 128
"""Such rows should be padded to a multiple of this, so that few plans are made."""
Tables = tuple[Tensor, Tensor] | tuple[None, None]
"""Cosines and sines (T, Dh); None: nothing is turned."""


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
    bounds: Tensor | None = None
    """(6, T) of `tree_attention.bounds`, where the row is one for it."""

    @classmethod
    def make(cls, layout: Layout, device: torch.device) -> "Plan":
        """The layout's spans on the device."""
        own = Spans.make(layout.offsets, layout.offsets, device)
        bounds = None
        if device.type == "cuda" and tree_attention.takes(layout):
            bounds = placed(tree_attention.bounds(layout), device)
        if not layout.branches:
            return cls(own, bounds=bounds)
        return cls(own, Spans.make(*layout.across(), device), layout.longest_shared(), bounds)


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
    if plan.across is not None:
        assert window is None or plan.longest_shared <= window, "a window would cut a shared prefix"
    if (kernels := _tree_kernels(q, plan)) is not None:
        out, sums = kernels.forward(q, k, v, plan.bounds, scale=scale, window=window)
        return Attended(out, sums.t())
    out, log_sum = _forward(q, k, v, plan.own, scale=scale, causal=True, window=window)
    if plan.across is not None:
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
    tables: Tables = (None, None),
) -> Tensor:
    """Gradients of q, k and v side by side, (T, (H + 2 Hkv) Dh), from that of the output, (T, H, Dh).

    Args:
        tables: by which q and k were turned: their gradients are turned back.
    """
    if attended.random_state:
        return heads_gradient(*_cudnn_backward(grad, q, k, v, attended, scale), *tables)
    out, log_sum = attended.out, attended.log_sum
    if (kernels := _tree_kernels(q, plan)) is not None:
        flat: Tensor = kernels.backward(
            grad, q, k, v, out, log_sum.t(), plan.bounds, scale=scale, window=window, tables=tables
        )
        return flat
    dq, dk, dv = _backward(grad, q, k, v, out, log_sum, plan.own, scale=scale, causal=True, window=window)
    if plan.across is not None:
        more = _backward(grad, q, k, v, out, log_sum, plan.across, scale=scale, causal=False, window=None)
        rows = (plan.across.query_rows, plan.across.key_rows, plan.across.key_rows)
        for total, part, there in zip((dq, dk, dv), more, rows, strict=True):
            add_rows_(total, part, there)
    return heads_gradient(dq, dk, dv, *tables)


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


def _tree_kernels(q: Tensor, plan: Plan) -> ModuleType | None:
    """What attends in one pass to a row of short segments; None: the row or the device is not for it."""
    if plan.bounds is None or not tree_attention.serves(q):
        return None
    from tenbin.decoder import tree_attention_kernels

    return tree_attention_kernels


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
