"""Activations and residual sums as Triton kernels, with LoRA's second product done on the way."""

# fmt: off

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.low_rank import LowRank
from tenbin.decoder.low_rank_kernels import precision
from tenbin.decoder.multiprocessors import multiprocessors

SILU, GELU = 0, 1
_KINDS = {"silu": SILU, "gelu_tanh": GELU}


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


@dataclass(frozen=True, slots=True)
class Tile:
    """How a program goes through its columns: `runs` tiles one below the other."""

    rows: int
    columns: int
    runs: int
    warps: int
    stages: int
    """Tiles on their way from memory at once."""


FORWARD, BACKWARD, BACKWARD_THICK = Tile(32, 64, 8, 4, 3), Tile(16, 128, 8, 4, 3), Tile(32, 64, 8, 4, 3)
SUM, THICK = Tile(32, 64, 4, 4, 3), Tile(16, 128, 1, 4, 1)
"""`BACKWARD_THICK`: of ranks above 32; `THICK`: where the factors are read anew for every tile."""


@triton.jit
def _factor(b, columns, mask, column_stride, r_stride, R: tl.constexpr, RP: tl.constexpr):
    """Columns of a matrix of R rows -> (RP, BN); 0 where there are none."""
    r = tl.arange(0, RP)
    place = b + columns[None, :] * column_stride + r[:, None] * r_stride
    return tl.load(place, mask=mask[None, :] & (r[:, None] < R), other=0.0)


@triton.jit
def _low_rows(low, rows, mask, stride, first, R: tl.constexpr, RP: tl.constexpr):
    """Columns [first, first + R) of low -> (BT, RP)."""
    r = tl.arange(0, RP)
    return tl.load(low + rows[:, None] * stride + first + r[None, :], mask=mask[:, None] & (r[None, :] < R), other=0.0)


@triton.jit(do_not_specialize=["T"])
def _activation_kernel(
    up, low, b, out, T, up_stride, low_stride, b_stride, WIDTH: tl.constexpr, KIND: tl.constexpr,
    GATED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, RUNS: tl.constexpr, STAGES: tl.constexpr,
    R: tl.constexpr, RP: tl.constexpr, HELD: tl.constexpr, PRECISION: tl.constexpr,
):
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    column_mask = n < WIDTH
    if R > 0 and HELD:
        gate_b = _factor(b, n, column_mask, b_stride, 1, R, RP)
        if GATED:
            up_b = _factor(b, n + WIDTH, column_mask, b_stride, 1, R, RP)
    first = tl.program_id(1) * (BT * RUNS)
    for t in tl.range(first, tl.minimum(first + BT * RUNS, T), BT, num_stages=STAGES):
        rows = t + tl.arange(0, BT).to(tl.int64)
        row_mask = rows < T
        mask = row_mask[:, None] & column_mask[None, :]
        place = up + rows[:, None] * up_stride + n[None, :]
        g = tl.load(place, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            u = tl.load(place + WIDTH, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            if not HELD:
                gate_b = _factor(b, n, column_mask, b_stride, 1, R, RP)
            g += tl.dot(_low_rows(low, rows, row_mask, low_stride, 0, R, RP), gate_b, input_precision=PRECISION)
            if GATED:
                if not HELD:
                    up_b = _factor(b, n + WIDTH, column_mask, b_stride, 1, R, RP)
                u += tl.dot(_low_rows(low, rows, row_mask, low_stride, R, R, RP), up_b, input_precision=PRECISION)
        y, _ = _activation(g, KIND)
        if GATED:
            y = y * u
        tl.store(out + rows[:, None] * WIDTH + n[None, :], y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T"])
def _activation_backward_kernel(
    up, grad, low, b, dlow, a, T, up_stride, low_stride, b_stride, dlow_stride, a_stride, WIDTH: tl.constexpr,
    KIND: tl.constexpr, GATED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, RUNS: tl.constexpr,
    STAGES: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, RA: tl.constexpr, RAP: tl.constexpr,
    HELD: tl.constexpr, PRECISION: tl.constexpr,
):
    """In place: up becomes its gradient, grad the activation; dlow A is added to grad first."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    column_mask = n < WIDTH
    if R > 0 and HELD:
        gate_b = _factor(b, n, column_mask, b_stride, 1, R, RP)
        if GATED:
            up_b = _factor(b, n + WIDTH, column_mask, b_stride, 1, R, RP)
    if RA > 0 and HELD:
        next_a = _factor(a, n, column_mask, 1, a_stride, RA, RAP)
    first = tl.program_id(1) * (BT * RUNS)
    for t in tl.range(first, tl.minimum(first + BT * RUNS, T), BT, num_stages=STAGES):
        rows = t + tl.arange(0, BT).to(tl.int64)
        row_mask = rows < T
        mask = row_mask[:, None] & column_mask[None, :]
        place = up + rows[:, None] * up_stride + n[None, :]
        there = grad + rows[:, None] * WIDTH + n[None, :]
        g = tl.load(place, mask=mask, other=0.0).to(tl.float32)
        d = tl.load(there, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            u = tl.load(place + WIDTH, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            if not HELD:
                gate_b = _factor(b, n, column_mask, b_stride, 1, R, RP)
            g += tl.dot(_low_rows(low, rows, row_mask, low_stride, 0, R, RP), gate_b, input_precision=PRECISION)
            if GATED:
                if not HELD:
                    up_b = _factor(b, n + WIDTH, column_mask, b_stride, 1, R, RP)
                u += tl.dot(_low_rows(low, rows, row_mask, low_stride, R, R, RP), up_b, input_precision=PRECISION)
        if RA > 0:
            if not HELD:
                next_a = _factor(a, n, column_mask, 1, a_stride, RA, RAP)
            d += tl.dot(_low_rows(dlow, rows, row_mask, dlow_stride, 0, RA, RAP), next_a, input_precision=PRECISION)
        y, slope = _activation(g, KIND)
        if GATED:
            tl.store(place, (d * u * slope).to(up.dtype.element_ty), mask=mask)
            tl.store(place + WIDTH, (d * y).to(up.dtype.element_ty), mask=mask)
            y = y * u
        else:
            tl.store(place, (d * slope).to(up.dtype.element_ty), mask=mask)
        tl.store(there, y.to(grad.dtype.element_ty), mask=mask)


def _holds(x: Tensor, rank: int) -> bool:
    """Whether the factors of such a rank stay in registers from tile to tile."""
    return rank <= (64 if multiprocessors(x.device).large else 16) and x.dtype != torch.float32


def activation(up: Tensor, kind: str, gated: bool, low: LowRank | None) -> Tensor:
    """(T, 2 I) or (T, I) -> (T, I); the products themselves stay without their adapters."""
    width = up.shape[1] // 2 if gated else up.shape[1]
    out = torch.empty(up.shape[0], width, dtype=up.dtype, device=up.device)
    rank = low.rank if low is not None else 0
    held = _holds(up, rank)
    tile = FORWARD if held else THICK
    _activation_kernel[(triton.cdiv(width, tile.columns), triton.cdiv(up.shape[0], tile.rows * tile.runs))](
        up, low.low if low is not None else up, low.b if low is not None else up, out, up.shape[0],
        up.stride(0), low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        width, _KINDS[kind], gated, tile.rows, tile.columns, tile.runs, tile.stages, rank,
        max(16, triton.next_power_of_2(rank)), held, precision(up), num_warps=tile.warps,
    )
    return out


def activation_backward_(
    up: Tensor, grad: Tensor, kind: str, gated: bool, low: LowRank | None,
    dlow: Tensor | None, a: Tensor | None,
) -> None:
    """In place, see the kernel. `dlow` (T, Ra) and `a` (Ra, I): what the next map's adapters add to `grad`."""
    width = grad.shape[1]
    rank = low.rank if low is not None else 0
    more = dlow.shape[1] if dlow is not None else 0
    held = _holds(up, max(rank, more))
    tile = THICK if not held else BACKWARD if max(rank, more) <= 32 else BACKWARD_THICK
    grid = (triton.cdiv(width, tile.columns), triton.cdiv(up.shape[0], tile.rows * tile.runs))
    _activation_backward_kernel[grid](
        up, grad, low.low if low is not None else up, low.b if low is not None else up,
        dlow if dlow is not None else up, a if a is not None else up, up.shape[0], up.stride(0),
        low.low.stride(0) if low is not None else 0, low.b.stride(0) if low is not None else 0,
        dlow.stride(0) if dlow is not None else 0, a.stride(0) if a is not None else 0, width, _KINDS[kind],
        gated, tile.rows, tile.columns, tile.runs, tile.stages, rank, max(16, triton.next_power_of_2(rank)), more,
        max(16, triton.next_power_of_2(more)), held, precision(up), num_warps=tile.warps,
    )


@triton.jit(do_not_specialize=["T"])
def _add_kernel(
    y, residual, low, b, out, T, low_stride, b_stride, WIDTH: tl.constexpr, RESIDUAL: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, RUNS: tl.constexpr, STAGES: tl.constexpr, R: tl.constexpr,
    RP: tl.constexpr, HELD: tl.constexpr, PRECISION: tl.constexpr,
):
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    column_mask = n < WIDTH
    if R > 0 and HELD:
        w = _factor(b, n, column_mask, b_stride, 1, R, RP)
    first = tl.program_id(1) * (BT * RUNS)
    for t in tl.range(first, tl.minimum(first + BT * RUNS, T), BT, num_stages=STAGES):
        rows = t + tl.arange(0, BT).to(tl.int64)
        row_mask = rows < T
        mask = row_mask[:, None] & column_mask[None, :]
        place = rows[:, None] * WIDTH + n[None, :]
        x = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
        if RESIDUAL:
            more = tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
        if R > 0:
            if not HELD:
                w = _factor(b, n, column_mask, b_stride, 1, R, RP)
            x += tl.dot(_low_rows(low, rows, row_mask, low_stride, 0, R, RP), w, input_precision=PRECISION)
        if RESIDUAL:
            x += more
        tl.store(out + place, x.to(out.dtype.element_ty), mask=mask)


def add(y: Tensor, residual: Tensor | None, low: LowRank | None, out: Tensor) -> None:
    """out = y + low B^T + residual, all (T, D) and contiguous; `out` may be `y`."""
    rank = low.rank if low is not None else 0
    held = _holds(y, rank)
    tile, width = SUM if held else THICK, y.shape[1]
    _add_kernel[(triton.cdiv(width, tile.columns), triton.cdiv(y.shape[0], tile.rows * tile.runs))](
        y, residual if residual is not None else y, low.low if low is not None else y,
        low.b if low is not None else y, out, y.shape[0], low.low.stride(0) if low is not None else 0,
        low.b.stride(0) if low is not None else 0, width, residual is not None, tile.rows, tile.columns, tile.runs,
        tile.stages, rank, max(16, triton.next_power_of_2(rank)), held, precision(y), num_warps=tile.warps,
    )
