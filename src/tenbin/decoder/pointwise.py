"""The row-wise and element-wise steps of a block, forward and backward: norms, rotation, activations, loss.

On a GPU each is one kernel of `kernels`; the definitions here serve CPUs and float64, and are what the
kernels are tested against. All of them compute in float32, or float64 where the model is float64, and round
once at the end. A trailing underscore: the first argument is changed.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from tenbin.decoder.low_rank import LowRank
from tenbin.decoder.multiprocessors import multiprocessors

Activation = Literal["silu", "gelu_tanh"]
_aten: Any = torch.ops.aten


def has_kernels(x: Tensor) -> bool:
    """Whether the steps run as kernels for tensors of this type and device."""
    return x.is_cuda and x.dtype != torch.float64


def _kernels(x: Tensor) -> ModuleType | None:
    if not has_kernels(x):
        return None
    from tenbin.decoder import kernels

    return kernels


def wide(x: Tensor) -> Tensor:
    """In float32, or as it is where it is float64."""
    return x if x.dtype == torch.float64 else x.float()


def completed(y: Tensor, low: LowRank | None) -> Tensor:
    """y (T, N) with its adapters' second product added, wide."""
    out = wide(y)
    if low is None:
        return out
    width, r = y.shape[1] // low.parts, low.rank
    parts = [
        wide(low.low[:, p * r : (p + 1) * r]) @ wide(low.b[p * width : (p + 1) * width]).t()
        for p in range(low.parts)
    ]
    return out + torch.cat(parts, dim=1)


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, unit_offset: bool) -> Tensor:
    """RMSNorm x / rms(x) * weight (Zhang and Sennrich 2019), or with a bias LayerNorm (Ba et al. 2016).

    Args:
        x: (..., D).
        unit_offset: Gemma's weights are kept as their difference from 1.
    """
    if (kernels := _kernels(x)) is not None:
        return kernels.norm(x, weight, bias, eps, unit_offset)  # type: ignore[no-any-return]
    h = wide(x)
    if bias is not None:
        h = h - h.mean(-1, keepdim=True)
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
        return (h * wide(weight) + wide(bias)).to(x.dtype)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    if unit_offset:
        return (h * (1 + wide(weight))).to(x.dtype)
    return h.to(x.dtype) * weight


def norm_backward(
    x: Tensor,
    grad: Tensor,
    bypass: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    *,
    unit_offset: bool,
) -> tuple[Tensor, Tensor]:
    """(gradient of x plus `bypass`, the norm's output again).

    With n = x / rms and g = grad * weight: dx = (g - n * mean(g * n)) / rms. LayerNorm's n is that of x less
    its mean, and mean(g) is subtracted as well.
    """
    if (kernels := _kernels(x)) is not None:
        found: tuple[Tensor, Tensor] = kernels.norm_backward(x, grad, bypass, weight, bias, eps, unit_offset)
        return found
    h = wide(x)
    if bias is not None:
        h = h - h.mean(-1, keepdim=True)
    rate = torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    n = h * rate
    w = 1 + wide(weight) if unit_offset else wide(weight)
    g = wide(grad) * w
    dx = g - n * (g * n).mean(-1, keepdim=True)
    y = n * w
    if bias is not None:
        dx = dx - g.mean(-1, keepdim=True)
        y = y + wide(bias)
    dx = dx * rate
    if bypass is not None:
        dx = dx + wide(bypass)
    return dx.to(x.dtype), y.to(x.dtype)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (T, H, Dh) turned by the angles of (T, Dh) tables, halves paired (Su et al. 2021, as in Llama).

    Both halves of a table are the same: the first is read.
    """
    half = x.shape[-1] // 2
    c, s = wide(cos)[:, None, :half], wide(sin)[:, None, :half]
    a, b = torch.split(wide(x), half, dim=-1)
    return torch.cat((a * c - b * s, b * c + a * s), dim=-1).to(x.dtype)


def finish_heads_(
    qkv: Tensor,
    low: LowRank | None,
    head_dim: int,
    heads: tuple[int, int, int],
    cos: Tensor | None,
    sin: Tensor | None,
) -> None:
    """Projections (T, (H + Hk + Hv) Dh), in place: adapters added, queries and keys turned.

    Args:
        heads: H, Hk and Hv.
        cos, sin: (T, Dh), both halves the same; None: nothing is turned.
    """
    if (kernels := _kernels(qkv)) is not None:
        kernels.finish_heads_(qkv, low, head_dim, heads, cos, sin)
        return
    assert low is None, "on a CPU the adapters are added by the linear group"
    if cos is not None and sin is not None:
        turned = torch.unflatten(qkv[:, : (heads[0] + heads[1]) * head_dim], 1, (-1, head_dim))
        turned.copy_(_turned(turned, cos, sin))


def heads_gradient(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """Gradients of queries, keys and values (T, H, Dh) -> of the projections, turned back."""
    if (kernels := _kernels(dq)) is not None:
        return kernels.heads_gradient(dq, dk, dv, cos, sin)  # type: ignore[no-any-return]
    if cos is not None and sin is not None:
        dq, dk = _turned(dq, cos, -sin), _turned(dk, cos, -sin)
    return torch.cat([part.flatten(1) for part in (dq, dk, dv)], dim=1)


def _activated(g: Tensor, kind: Activation) -> Tensor:
    """Of wide values: x sigmoid(x), or the approximation of GELU by tanh (Hendrycks and Gimpel 2016)."""
    return silu(g) if kind == "silu" else gelu(g, approximate="tanh")


def _activated_backward(d: Tensor, g: Tensor, kind: Activation) -> Tensor:
    """d times the activation's derivative at g, both wide."""
    back = _aten.silu_backward(d, g) if kind == "silu" else _aten.gelu_backward(d, g, approximate="tanh")
    return cast("Tensor", back)


def activation(up: Tensor, kind: Activation, *, gated: bool, low: LowRank | None) -> Tensor:
    """(T, 2 I) of gate and up -> activation(gate) * up (Shazeer 2020); without a gate (T, I) -> activation.

    `up` stays without its adapters, so the backward pass takes `low` too.
    """
    if (kernels := _kernels(up)) is not None:
        return kernels.activation(up, kind, gated, low)  # type: ignore[no-any-return]
    whole = completed(up, low)
    if not gated:
        return _activated(whole, kind).to(up.dtype)
    g, u = whole.chunk(2, dim=1)
    return (_activated(g, kind) * u).to(up.dtype)


def activation_backward_(
    up: Tensor,
    grad: Tensor,
    kind: Activation,
    *,
    gated: bool,
    low: LowRank | None,
    dlow: Tensor | None = None,
    a: Tensor | None = None,
) -> None:
    """In place: `up` becomes its gradient, and `grad` (T, I) the activation's output again.

    Args:
        dlow, a: (T, Ra) and (Ra, I): their product is added to `grad` first.
    """
    if (kernels := _kernels(up)) is not None:
        kernels.activation_backward_(up, grad, kind, gated, low, dlow, a)
        return
    whole, d = completed(up, low), wide(grad)
    if dlow is not None and a is not None:
        d = d + wide(dlow) @ wide(a)
    if gated:
        g, u = whole.chunk(2, dim=1)
        value = _activated(g, kind)
        gradient = torch.cat((_activated_backward(d * u, g, kind), d * value), dim=1)
        output = value * u
    else:
        output, gradient = _activated(whole, kind), _activated_backward(d, whole, kind)
    up.copy_(gradient)
    grad.copy_(output)


def add(y: Tensor, residual: Tensor | None, low: LowRank | None, out: Tensor) -> None:
    """out = y + its adapters + residual, all (T, D); `out` may be `y`."""
    if (kernels := _kernels(y)) is not None:
        kernels.add(y, residual, low, out)
    elif low is None and residual is not None:
        torch.add(y, residual, out=out)
    else:
        whole = completed(y, low)
        out.copy_(whole if residual is None else whole + wide(residual))


def cross_entropy_(logits: Tensor, labels: Tensor, scales: Tensor | None) -> Tensor:
    """-log p of each label (n,); with `scales` the logits (n, V) become the gradient of their scaled sum.

    d loss / d logits = softmax - onehot.
    """
    if (kernels := _kernels(logits)) is not None:
        return kernels.cross_entropy_(logits, labels, scales)  # type: ignore[no-any-return]
    h = wide(logits)
    log_z = h.logsumexp(dim=-1, keepdim=True)
    target = labels[:, None]
    losses = (log_z - h.gather(1, target))[:, 0]
    if scales is not None:
        probs = (h - log_z).exp_()
        probs.scatter_add_(1, target, torch.full_like(probs[:, :1], -1.0))
        logits.copy_(probs.mul_(scales[:, None]))
    return losses


MOST_JOINED_RANK = 32
"""Of one map's adapters: above, the sums on the way to dlow and dB cost more than reading dy twice."""


def joins(low: LowRank) -> bool:
    """Whether one kernel makes dlow and dB of this; two products do otherwise."""
    x = low.low
    return (
        has_kernels(x) and low.rank <= MOST_JOINED_RANK and low.parts <= 3 and multiprocessors(x.device).large
    )


def low_gradients(
    grad: Tensor, low: LowRank, starts: Sequence[int], mask: Tensor | None, grad_b: Tensor
) -> Tensor:
    """dlow (T, parts r) = dy B, part by part, times `mask`; dB = dy^T low is added to `grad_b`.

    Args:
        grad: dy (T, N), rows of any stride.
        starts: first column of each part.
        mask: (T, parts r), 0 where a column is not of the row's own adapter.
        grad_b: (N, r), wide.
    """
    if (kernels := _kernels(grad)) is not None:
        return kernels.low_gradients(grad, low, starts, mask, grad_b)  # type: ignore[no-any-return]
    r, found = low.rank, []
    for p, (start, end) in enumerate(zip(starts, [*starts[1:], grad.shape[1]], strict=True)):
        columns = wide(grad[:, start:end])
        found.append(columns @ wide(low.b[start:end]))
        grad_b[start:end] += columns.t() @ wide(low.low[:, p * r : (p + 1) * r])
    dlow = torch.cat(found, dim=1)
    return (dlow if mask is None else dlow * wide(mask)).to(grad.dtype)


E4M3 = torch.float8_e4m3fn
E4M3_LARGEST = 448.0


def quantized(x: Tensor, row_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(T, K) -> its rows in e4m3, and their scales (T, 1) in float32.

    Args:
        row_scale: (K,) multiplied in first.
    """
    if (kernels := _kernels(x)) is not None:
        found: tuple[Tensor, Tensor] = kernels.quantized(x, row_scale)
        return found
    h = x.float() if row_scale is None else x.float() * row_scale
    largest = h.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12)
    inverse = torch.full_like(largest, E4M3_LARGEST) / largest  # once a row: a division takes a GPU longest
    return (h * inverse).to(E4M3), largest * (1 / E4M3_LARGEST)


def norm_quantized(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, unit_offset: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """x (T, D) -> (n = `norm` of it, and `quantized` of n)."""
    if (kernels := _kernels(x)) is not None:
        found: tuple[Tensor, Tensor, Tensor] = kernels.norm_quantized(x, weight, bias, eps, unit_offset)
        return found
    n = norm(x, weight, bias, eps, unit_offset=unit_offset)
    return n, *quantized(n)


def transposed(weight: Tensor) -> Tensor:
    """(N, K) of e4m3 -> (K, N), written anew."""
    bits = weight.view(torch.uint8)
    if (kernels := _kernels(bits)) is not None:
        return kernels.transposed(bits).view(E4M3)  # type: ignore[no-any-return]
    return bits.t().contiguous().view(E4M3)
