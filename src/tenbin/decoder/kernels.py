"""The steps of `pointwise` as Triton kernels for a GPU, with LoRA's second product done on the way.

Each reads and writes memory once. Where a linear map's output is read anyway (by the rotation, the
activation, the residual sum), `low B^T` of its adapters is added there, in registers, so that the adapters
cost no pass over the wide products of their own. All arithmetic is float32. The functions have the
arguments of their plain counterparts in `pointwise`, which are also their oracle.
"""

# A launch has some twenty arguments: one a line, they would bury the kernels.
# fmt: off

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.low_rank import LowRank

# Rows differ from pack to pack: a kernel is not compiled anew because there are a multiple of 16, or one.
SILU, GELU = 0, 1
_KINDS = {"silu": SILU, "gelu_tanh": GELU}


@triton.jit
def _low_product(
    low, b, rows, columns, row_mask, column_mask, low_stride, b_stride, first, R: tl.constexpr, RP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows of `low` (BT, R) from column `first` times rows of B (BN, R) -> (BT, BN)."""
    r = tl.arange(0, RP)
    a = tl.load(
        low + rows[:, None] * low_stride + first + r[None, :], mask=row_mask[:, None] & (r[None, :] < R), other=0.0
    )
    w = tl.load(
        b + columns[None, :] * b_stride + r[:, None], mask=column_mask[None, :] & (r[:, None] < R), other=0.0
    )
    return tl.dot(a, w, input_precision=PRECISION)


@triton.jit
def _norm_kernel(
    x, weight, bias, out, eps, heads, x_stride, D: tl.constexpr, BLOCK: tl.constexpr, LAYER: tl.constexpr,
    OFFSET: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    inside = n < D
    h = tl.load(x + (row // heads) * x_stride + (row % heads) * D + n, mask=inside, other=0.0).to(tl.float32)
    if LAYER:
        h = tl.where(inside, h - tl.sum(h, 0) / D, 0.0)
    h = h * tl.rsqrt(tl.sum(h * h, 0) / D + eps)
    w = tl.load(weight + n, mask=inside, other=0.0).to(tl.float32)
    if LAYER:
        h = h * w + tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)
    elif OFFSET:
        h = h * (1 + w)
    else:
        h = h.to(out.dtype.element_ty).to(tl.float32) * w
    tl.store(out + row * D + n, h.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward_kernel(
    x, grad, bypass, weight, bias, dx, out, eps, heads, x_stride, grad_stride, D: tl.constexpr,
    BLOCK: tl.constexpr, LAYER: tl.constexpr, OFFSET: tl.constexpr, BYPASS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    inside = n < D
    t, head = row // heads, row % heads
    h = tl.load(x + t * x_stride + head * D + n, mask=inside, other=0.0).to(tl.float32)
    if LAYER:
        h = tl.where(inside, h - tl.sum(h, 0) / D, 0.0)
    rate = tl.rsqrt(tl.sum(h * h, 0) / D + eps)
    h = h * rate
    w = tl.load(weight + n, mask=inside, other=0.0).to(tl.float32)
    if OFFSET:
        w = 1 + w
    g = tl.load(grad + t * grad_stride + head * D + n, mask=inside, other=0.0).to(tl.float32) * w
    d = g - h * (tl.sum(g * h, 0) / D)
    y = h * w
    if LAYER:
        d -= tl.sum(g, 0) / D
        y += tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)
    d = d * rate
    if BYPASS:
        d += tl.load(bypass + row * D + n, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx + row * D + n, d.to(dx.dtype.element_ty), mask=inside)
    tl.store(out + row * D + n, y.to(out.dtype.element_ty), mask=inside)


def _warps(width: int) -> int:
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, unit_offset: bool) -> Tensor:
    """x (T, D), or (T, H, D) with rows of any stride -> the same shape, contiguous."""
    d = x.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    heads = x.shape[1] if x.dim() == 3 else 1
    block = triton.next_power_of_2(d)
    _norm_kernel[(out.numel() // d,)](
        x, weight, bias if bias is not None else weight, out, eps, heads, x.stride(0), d, block,
        bias is not None, unit_offset, num_warps=_warps(block),
    )
    return out


def norm_backward(
    x: Tensor, grad: Tensor, bypass: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float,
    unit_offset: bool,
) -> tuple[Tensor, Tensor]:
    """(dx, the norm's output again), both contiguous."""
    d = x.shape[-1]
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    heads = x.shape[1] if x.dim() == 3 else 1
    block = triton.next_power_of_2(d)
    _norm_backward_kernel[(out.numel() // d,)](
        x, grad, bypass if bypass is not None else x, weight, bias if bias is not None else weight, dx, out,
        eps, heads, x.stride(0), grad.stride(0), d, block, bias is not None, unit_offset,
        bypass is not None, num_warps=_warps(block),
    )
    return dx, out


@triton.jit(do_not_specialize=["T"])
def _heads_kernel(
    qkv, low, b, cos, sin, T, total, rotated, first_kv, first_v, stride, low_stride, b_stride, D: tl.constexpr,
    HALF: tl.constexpr, BT: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, PRECISION: tl.constexpr,
    HEADS: tl.constexpr,
):
    """Some heads of a run of tokens, in place: low B^T is added, then the halves are turned."""
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    n = tl.arange(0, HALF)
    row_mask = rows < T
    inside = n < D // 2
    mask = row_mask[:, None] & inside[None, :]
    r64 = rows.to(tl.int64)
    begin = tl.program_id(1) * HEADS
    table = rows[:, None] * D + n[None, :]
    turns = mask & (begin < rotated)
    c1 = tl.load(cos + table, mask=turns, other=1.0).to(tl.float32)
    s1 = tl.load(sin + table, mask=turns, other=0.0).to(tl.float32)
    c2 = tl.load(cos + table + D // 2, mask=turns, other=1.0).to(tl.float32)
    s2 = tl.load(sin + table + D // 2, mask=turns, other=0.0).to(tl.float32)
    for i in tl.static_range(HEADS):
        head = begin + i
        if head < total:
            first = qkv + r64[:, None] * stride + head * D + n[None, :]
            x1 = tl.load(first, mask=mask, other=0.0).to(tl.float32)
            x2 = tl.load(first + D // 2, mask=mask, other=0.0).to(tl.float32)
            if R > 0:
                part = (head >= first_kv).to(tl.int32) + (head >= first_v).to(tl.int32)
                columns = head * D + n
                x1 += _low_product(
                    low, b, r64, columns, row_mask, inside, low_stride, b_stride, part * R, R, RP, PRECISION
                )
                x2 += _low_product(
                    low, b, r64, columns + D // 2, row_mask, inside, low_stride, b_stride, part * R, R, RP,
                    PRECISION,
                )
            if head < rotated:
                y1 = x1 * c1 - x2 * s1
                x2 = x2 * c2 + x1 * s2
                x1 = y1
            tl.store(first, x1.to(qkv.dtype.element_ty), mask=mask)
            tl.store(first + D // 2, x2.to(qkv.dtype.element_ty), mask=mask)


def finish_heads_(
    qkv: Tensor, low: LowRank | None, head_dim: int, heads: tuple[int, int, int], cos: Tensor | None,
    sin: Tensor | None,
) -> None:
    """(T, (H + 2 Hkv) Dh) in place: adapters added, queries and keys turned where there are tables."""
    if low is None and cos is None:
        return
    rows, total = qkv.shape[0], sum(heads)
    rank = low.rank if low is not None else 0
    block, together = 32, 4
    grid = (triton.cdiv(rows, block), triton.cdiv(total, together))
    fused_qkv = low is not None and low.parts == 1  # GPT-2: one map for all three
    _heads_kernel[grid](
        qkv, low.low if low is not None else qkv, low.b if low is not None else qkv,
        cos if cos is not None else qkv, sin if sin is not None else qkv, rows, total,
        heads[0] + heads[1] if cos is not None else 0,
        total if fused_qkv else heads[0], total if fused_qkv else heads[0] + heads[1], qkv.stride(0),
        low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        head_dim, max(16, triton.next_power_of_2(head_dim // 2)), block, rank,
        max(16, triton.next_power_of_2(rank)), _precision(qkv), together, num_warps=4,
    )


@triton.jit(do_not_specialize=["T"])
def _heads_gradient_kernel(
    dq, dk, dv, cos, sin, out, T, q_heads, kv_heads, q_stride, k_stride, v_stride, out_stride,
    q_head, k_head, v_head, rotated, D: tl.constexpr, HALF: tl.constexpr, BT: tl.constexpr,
    HEADS: tl.constexpr,
):
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    n = tl.arange(0, HALF)
    mask = (rows < T)[:, None] & (n[None, :] < D // 2)
    r64 = rows[:, None].to(tl.int64)
    begin = tl.program_id(1) * HEADS
    table = rows[:, None] * D + n[None, :]
    turns = mask & (begin < rotated)
    c1 = tl.load(cos + table, mask=turns, other=1.0).to(tl.float32)
    s1 = tl.load(sin + table, mask=turns, other=0.0).to(tl.float32)
    c2 = tl.load(cos + table + D // 2, mask=turns, other=1.0).to(tl.float32)
    s2 = tl.load(sin + table + D // 2, mask=turns, other=0.0).to(tl.float32)
    for i in tl.static_range(HEADS):
        head = begin + i
        if head < q_heads + 2 * kv_heads:
            if head < q_heads:
                source = dq + r64 * q_stride + head * q_head + n[None, :]
            elif head < q_heads + kv_heads:
                source = dk + r64 * k_stride + (head - q_heads) * k_head + n[None, :]
            else:
                source = dv + r64 * v_stride + (head - q_heads - kv_heads) * v_head + n[None, :]
            x1 = tl.load(source, mask=mask, other=0.0).to(tl.float32)
            x2 = tl.load(source + D // 2, mask=mask, other=0.0).to(tl.float32)
            if head < rotated:
                y1 = x1 * c1 + x2 * s1
                x2 = x2 * c2 - x1 * s2
                x1 = y1
            target = out + r64 * out_stride + head * D + n[None, :]
            tl.store(target, x1.to(out.dtype.element_ty), mask=mask)
            tl.store(target + D // 2, x2.to(out.dtype.element_ty), mask=mask)


def heads_gradient(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """(T, H, Dh) gradients of queries, keys and values -> (T, (H + 2 Hkv) Dh), turned back."""
    rows, heads, d = dq.shape
    kv = dk.shape[1]
    out = torch.empty(rows, (heads + 2 * kv) * d, dtype=dq.dtype, device=dq.device)
    block, together = 32, 4
    _heads_gradient_kernel[(triton.cdiv(rows, block), triton.cdiv(heads + 2 * kv, together))](
        dq, dk, dv, cos if cos is not None else dq, sin if sin is not None else dq, out, rows, heads, kv,
        dq.stride(0), dk.stride(0), dv.stride(0), out.stride(0), dq.stride(1), dk.stride(1), dv.stride(1),
        heads + kv if cos is not None else 0, d, max(16, triton.next_power_of_2(d // 2)), block, together,
        num_warps=4,
    )
    return out


@triton.jit
def _activation(g, KIND: tl.constexpr):
    """(activation, its derivative)."""
    if KIND == 0:
        s = tl.sigmoid(g)
        return g * s, s * (1 + g * (1 - s))
    inner = 0.7978845608028654 * (g + 0.044715 * g * g * g)
    t = 2 * tl.sigmoid(2 * inner) - 1
    slope = 0.7978845608028654 * (1 + 3 * 0.044715 * g * g)
    return 0.5 * g * (1 + t), 0.5 * (1 + t) + 0.5 * g * (1 - t * t) * slope


@triton.jit(do_not_specialize=["T"])
def _activation_kernel(
    up, low, b, out, T, up_stride, low_stride, b_stride, WIDTH: tl.constexpr, KIND: tl.constexpr,
    GATED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, R: tl.constexpr, RP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(1) * BT + tl.arange(0, BT)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    row_mask, column_mask = rows < T, n < WIDTH
    mask = row_mask[:, None] & column_mask[None, :]
    r64 = rows.to(tl.int64)
    place = up + r64[:, None] * up_stride + n[None, :]
    g = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    if R > 0:
        g += _low_product(low, b, r64, n, row_mask, column_mask, low_stride, b_stride, 0, R, RP, PRECISION)
    y, _ = _activation(g, KIND)
    if GATED:
        u = tl.load(place + WIDTH, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            u += _low_product(
                low, b, r64, n + WIDTH, row_mask, column_mask, low_stride, b_stride, R, R, RP, PRECISION
            )
        y = y * u
    tl.store(out + r64[:, None] * WIDTH + n[None, :], y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T"])
def _activation_backward_kernel(
    up, grad, low, b, dlow, a, T, up_stride, low_stride, b_stride, dlow_stride, a_stride, WIDTH: tl.constexpr,
    KIND: tl.constexpr, GATED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, R: tl.constexpr,
    RP: tl.constexpr, RA: tl.constexpr, RAP: tl.constexpr, PRECISION: tl.constexpr,
):
    """In place: up becomes its gradient, grad the activation; dlow A is added to grad first."""
    rows = tl.program_id(1) * BT + tl.arange(0, BT)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    row_mask, column_mask = rows < T, n < WIDTH
    mask = row_mask[:, None] & column_mask[None, :]
    r64 = rows.to(tl.int64)
    place = up + r64[:, None] * up_stride + n[None, :]
    there = grad + r64[:, None] * WIDTH + n[None, :]
    g = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(there, mask=mask, other=0.0).to(tl.float32)
    if R > 0:
        g += _low_product(low, b, r64, n, row_mask, column_mask, low_stride, b_stride, 0, R, RP, PRECISION)
    if RA > 0:
        r = tl.arange(0, RAP)
        dl = tl.load(
            dlow + r64[:, None] * dlow_stride + r[None, :], mask=row_mask[:, None] & (r[None, :] < RA), other=0.0
        )
        w = tl.load(a + r[:, None] * a_stride + n[None, :], mask=column_mask[None, :] & (r[:, None] < RA), other=0.0)
        d += tl.dot(dl, w, input_precision=PRECISION)
    y, slope = _activation(g, KIND)
    if GATED:
        u = tl.load(place + WIDTH, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            u += _low_product(
                low, b, r64, n + WIDTH, row_mask, column_mask, low_stride, b_stride, R, R, RP, PRECISION
            )
        tl.store(place, (d * u * slope).to(up.dtype.element_ty), mask=mask)
        tl.store(place + WIDTH, (d * y).to(up.dtype.element_ty), mask=mask)
        y = y * u
    else:
        tl.store(place, (d * slope).to(up.dtype.element_ty), mask=mask)
    tl.store(there, y.to(grad.dtype.element_ty), mask=mask)


def activation(up: Tensor, kind: str, gated: bool, low: LowRank | None) -> Tensor:
    """(T, 2 I) or (T, I) -> (T, I); the products themselves stay without their adapters."""
    width = up.shape[1] // 2 if gated else up.shape[1]
    out = torch.empty(up.shape[0], width, dtype=up.dtype, device=up.device)
    rank = low.rank if low is not None else 0
    bt, bn = 16, 128
    _activation_kernel[(triton.cdiv(width, bn), triton.cdiv(up.shape[0], bt))](
        up, low.low if low is not None else up, low.b if low is not None else up, out, up.shape[0],
        up.stride(0), low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        width, _KINDS[kind], gated, bt, bn, rank, max(16, triton.next_power_of_2(rank)), _precision(up),
        num_warps=4,
    )
    return out


def activation_backward_(
    up: Tensor, grad: Tensor, kind: str, gated: bool, low: LowRank | None,
    dlow: Tensor | None, a: Tensor | None,
) -> None:
    """In place, see the kernel. `dlow` (T, Ra) and `a` (Ra, I): what the next map's adapters add to `grad`."""
    width = grad.shape[1]
    rank = low.rank if low is not None else 0
    wide = dlow.shape[1] if dlow is not None else 0
    bt, bn = 16, 128
    _activation_backward_kernel[(triton.cdiv(width, bn), triton.cdiv(up.shape[0], bt))](
        up, grad, low.low if low is not None else up, low.b if low is not None else up,
        dlow if dlow is not None else up, a if a is not None else up, up.shape[0], up.stride(0),
        low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        dlow.stride(0) if dlow is not None else 0, a.stride(0) if a is not None else 0, width, _KINDS[kind],
        gated, bt, bn, rank, max(16, triton.next_power_of_2(rank)), wide,
        max(16, triton.next_power_of_2(wide)), _precision(up), num_warps=4,
    )


@triton.jit(do_not_specialize=["T"])
def _add_kernel(
    y, residual, low, b, out, T, low_stride, b_stride, WIDTH: tl.constexpr, RESIDUAL: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, PRECISION: tl.constexpr,
):
    rows = tl.program_id(1) * BT + tl.arange(0, BT)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    row_mask, column_mask = rows < T, n < WIDTH
    mask = row_mask[:, None] & column_mask[None, :]
    r64 = rows.to(tl.int64)
    place = r64[:, None] * WIDTH + n[None, :]
    x = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
    if R > 0:
        x += _low_product(low, b, r64, n, row_mask, column_mask, low_stride, b_stride, 0, R, RP, PRECISION)
    if RESIDUAL:
        x += tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, x.to(out.dtype.element_ty), mask=mask)


def add(y: Tensor, residual: Tensor | None, low: LowRank | None, out: Tensor) -> None:
    """out = y + low B^T + residual, all (T, D) and contiguous; `out` may be `y`."""
    rank = low.rank if low is not None else 0
    bt, bn = 16, 256
    width = y.shape[1]
    _add_kernel[(triton.cdiv(width, bn), triton.cdiv(y.shape[0], bt))](
        y, residual if residual is not None else y, low.low if low is not None else y,
        low.b if low is not None else y, out, y.shape[0], low.low.stride(0) if low is not None else 0,
        low.b.stride(0) if low is not None else 0, width, residual is not None, bt, bn, rank,
        max(16, triton.next_power_of_2(rank)), _precision(y), num_warps=4,
    )


@triton.jit
def _quantize_kernel(
    x, row_scale, out, scale, x_stride, K: tl.constexpr, BLOCK: tl.constexpr, SCALED: tl.constexpr,
    PASSES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    largest = 0.0
    for i in tl.static_range(PASSES):
        c = i * BLOCK + n
        h = tl.load(x + row * x_stride + c, mask=c < K, other=0.0).to(tl.float32)
        if SCALED:
            h *= tl.load(row_scale + c, mask=c < K, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(h), 0))
    s = tl.maximum(largest, 1e-12) / 448.0
    for i in tl.static_range(PASSES):
        c = i * BLOCK + n
        h = tl.load(x + row * x_stride + c, mask=c < K, other=0.0).to(tl.float32)
        if SCALED:
            h *= tl.load(row_scale + c, mask=c < K, other=0.0)
        q = tl.minimum(tl.maximum(h / s, -448.0), 448.0)
        tl.store(out + row * K + c, q.to(tl.float8e4nv), mask=c < K)
    tl.store(scale + row, s)


def quantized(x: Tensor, row_scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """(T, K) (times `row_scale` (K,)) -> its rows in e4m3, and their scales (T, 1)."""
    rows, k = x.shape
    out = torch.empty(rows, k, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    block = min(8192, triton.next_power_of_2(k))
    _quantize_kernel[(rows,)](
        x, row_scale if row_scale is not None else scale, out, scale, x.stride(0), k, block,
        row_scale is not None, triton.cdiv(k, block), num_warps=_warps(block),
    )
    return out, scale


@triton.jit
def _transpose_kernel(x, out, N, K, BN: tl.constexpr, BK: tl.constexpr):
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    v = tl.load(x + n[:, None].to(tl.int64) * K + k[None, :], mask=(n < N)[:, None] & (k < K)[None, :], other=0)
    tl.store(out + k[:, None].to(tl.int64) * N + n[None, :], tl.trans(v), mask=(k < K)[:, None] & (n < N)[None, :])


def transposed(x: Tensor) -> Tensor:
    """(N, K) of bytes -> (K, N), written anew."""
    n, k = x.shape
    out = torch.empty(k, n, dtype=x.dtype, device=x.device)
    _transpose_kernel[(triton.cdiv(n, 64), triton.cdiv(k, 64))](x, out, n, k, 64, 64, num_warps=4)
    return out


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
        block, scales is not None, num_warps=_warps(block),
    )
    return losses


def _precision(x: Tensor) -> Any:  # noqa: ANN401
    """float32 products in full, whatever the device would rather do."""
    return "ieee" if x.dtype == torch.float32 else "tf32"
