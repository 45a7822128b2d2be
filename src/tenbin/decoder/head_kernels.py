"""Between projections and attention, as Triton kernels: adapters added, queries and keys turned, and back."""

# fmt: off

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.low_rank import LowRank
from tenbin.decoder.low_rank_kernels import low_product, precision
from tenbin.decoder.multiprocessors import multiprocessors

ROWS, HEADS, WARPS, STAGES = 16, 8, 4, 3
"""Of a program: tokens, heads one after another, warps, heads on their way from memory at once."""
BACK = (32, 1)
"""Tokens and heads of a program of the gradient."""


@triton.jit(do_not_specialize=["T"])
def _heads_kernel(
    qkv, low, b, cos, sin, T, total, rotated, first_kv, first_v, stride, low_stride, b_stride, D: tl.constexpr,
    HALF: tl.constexpr, BT: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, PRECISION: tl.constexpr,
    HEADS: tl.constexpr, STAGES: tl.constexpr,
):
    """Some heads of a run of tokens, in place: low B^T is added, then the halves are turned."""
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    n = tl.arange(0, HALF)
    r64, row_mask, inside = rows.to(tl.int64), rows < T, n < D // 2
    mask = row_mask[:, None] & inside[None, :]
    begin = tl.program_id(1) * HEADS
    table = r64[:, None] * D + n[None, :]
    turns = mask & (begin < rotated)
    co = tl.load(cos + table, mask=turns, other=1.0).to(tl.float32)  # the other half is the same
    si = tl.load(sin + table, mask=turns, other=0.0).to(tl.float32)
    for head in tl.range(begin, tl.minimum(begin + HEADS, total), num_stages=STAGES):
        first = qkv + r64[:, None] * stride + head * D + n[None, :]
        x1 = tl.load(first, mask=mask, other=0.0).to(tl.float32)
        x2 = tl.load(first + D // 2, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            part = tl.where(head >= first_v, 2, tl.where(head >= first_kv, 1, 0))
            columns = head * D + n
            x1 += low_product(
                low, b, r64, columns, row_mask, inside, low_stride, b_stride, part * R, R, RP, PRECISION
            )
            x2 += low_product(
                low, b, r64, columns + D // 2, row_mask, inside, low_stride, b_stride, part * R, R, RP, PRECISION
            )
        c, s = tl.where(head < rotated, co, 1.0), tl.where(head < rotated, si, 0.0)
        tl.store(first, (x1 * c - x2 * s).to(qkv.dtype.element_ty), mask=mask)
        tl.store(first + D // 2, (x2 * c + x1 * s).to(qkv.dtype.element_ty), mask=mask)


def finish_heads_(
    qkv: Tensor, low: LowRank | None, head_dim: int, heads: tuple[int, int, int], cos: Tensor | None,
    sin: Tensor | None,
) -> None:
    """(T, (H + 2 Hkv) Dh) in place: adapters added, queries and keys turned where there are tables."""
    if low is None and cos is None:
        return
    rows, total = qkv.shape[0], sum(heads)
    rank = low.rank if low is not None else 0
    # Factors of higher ranks would not fit in stages.
    staged = rank <= (64 if multiprocessors(qkv.device).large else 16) and qkv.dtype != torch.float32
    block = ROWS if staged and rank <= 32 else 2 * ROWS
    fused_qkv = low is not None and low.parts == 1  # GPT-2: one map for all three
    _heads_kernel[(triton.cdiv(rows, block), triton.cdiv(total, HEADS))](
        qkv, low.low if low is not None else qkv, low.b if low is not None else qkv,
        cos if cos is not None else qkv, sin if sin is not None else qkv, rows, total,
        heads[0] + heads[1] if cos is not None else 0,
        total if fused_qkv else heads[0], total if fused_qkv else heads[0] + heads[1], qkv.stride(0),
        low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        head_dim, max(16, triton.next_power_of_2(head_dim // 2)), block, rank,
        max(16, triton.next_power_of_2(rank)), precision(qkv), HEADS,
        STAGES if staged else 1, num_warps=WARPS,
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
    co = tl.load(cos + table, mask=turns, other=1.0).to(tl.float32)  # the other half is the same
    si = tl.load(sin + table, mask=turns, other=0.0).to(tl.float32)
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
                y1 = x1 * co + x2 * si
                x2 = x2 * co - x1 * si
                x1 = y1
            target = out + r64 * out_stride + head * D + n[None, :]
            tl.store(target, x1.to(out.dtype.element_ty), mask=mask)
            tl.store(target + D // 2, x2.to(out.dtype.element_ty), mask=mask)


def heads_gradient(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """(T, H, Dh) gradients of queries, keys and values -> (T, (H + 2 Hkv) Dh), turned back."""
    rows, heads, d = dq.shape
    kv = dk.shape[1]
    out = torch.empty(rows, (heads + 2 * kv) * d, dtype=dq.dtype, device=dq.device)
    block, together = BACK
    _heads_gradient_kernel[(triton.cdiv(rows, block), triton.cdiv(heads + 2 * kv, together))](
        dq, dk, dv, cos if cos is not None else dq, sin if sin is not None else dq, out, rows, heads, kv,
        dq.stride(0), dk.stride(0), dv.stride(0), out.stride(0), dq.stride(1), dk.stride(1), dv.stride(1),
        heads + kv if cos is not None else 0, d, max(16, triton.next_power_of_2(d // 2)), block, together,
        num_warps=4,
    )
    return out
