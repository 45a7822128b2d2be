"""dlow = dy B and dB = dy^T low of a group's adapters in one reading of dy, as Triton kernels.

dy is by far the largest of these: of two products each would read all of it. A program reads a run of rows of
some columns, tile by tile; each tile is multiplied with B and, turned round, with low. The sums over other
programs' columns and rows go to memory in float32 and are added in a fixed order by a second kernel, so that
the result is the same every time.
"""

# fmt: off

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.low_rank import LowRank
from tenbin.decoder.low_rank_kernels import precision
from tenbin.decoder.multiprocessors import multiprocessors

MOST_PARTS = 3
SCRATCH = 32 << 20
"""Bytes of the sums at once; longer packs go through in runs of rows."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How a program reads dy."""

    rows: int
    columns: int
    warps: int
    stages: int
    """Tiles on their way from memory at once."""
    programs: int
    """That a multiprocessor has room for."""


WIDE, WIDE_THICK, NARROW = Tile(64, 512, 8, 3, 1), Tile(64, 512, 8, 2, 1), Tile(64, 256, 8, 5, 1)
MOST, EXACT = Tile(64, 256, 8, 4, 1), Tile(16, 64, 4, 1, 2)
"""Of ranks above 32, up to 64, and in float32."""


def _tile(grad: Tensor, rank: int) -> Tile:
    width = grad.shape[1]
    if grad.dtype == torch.float32:
        return EXACT
    if rank <= 16:
        return WIDE if width > 4096 else NARROW
    if rank <= 32:
        return WIDE_THICK if width > 16384 else NARROW
    return MOST


@triton.jit(do_not_specialize=["T", "each"])
def _partial_kernel(
    dy, low, b, dlow, grad_b, T, each, dy_stride, low_stride, SECOND: tl.constexpr, THIRD: tl.constexpr,
    N: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some columns of one part, and a run of rows. Part 0 ends at column SECOND, part 1 at THIRD, part 2 at N."""
    chunk = tl.program_id(0)
    ends: tl.constexpr = (SECOND + BN - 1) // BN
    ends_1: tl.constexpr = ends + (THIRD - SECOND + BN - 1) // BN
    part, start, end, before = 0, 0, SECOND, 0
    if chunk >= ends_1:
        part, start, end, before = 2, THIRD, N, ends_1
    elif chunk >= ends:
        part, start, end, before = 1, SECOND, THIRD, ends
    n = start + (chunk - before) * BN + tl.arange(0, BN)
    r = tl.arange(0, RP)
    inside = n < end
    w = tl.load(b + n[:, None] * R + r[None, :], mask=inside[:, None] & (r[None, :] < R), other=0.0)
    total = tl.zeros((BN, RP), tl.float32)
    first = tl.program_id(1) * each
    for t in tl.range(first, tl.minimum(first + each, T), BT, num_stages=STAGES):
        rows = t + tl.arange(0, BT).to(tl.int64)
        there = rows < T
        tile = tl.load(
            dy + rows[:, None] * dy_stride + n[None, :], mask=there[:, None] & inside[None, :], other=0.0
        )
        of_rows = tl.load(
            low + rows[:, None] * low_stride + part * R + r[None, :], mask=there[:, None] & (r[None, :] < R), other=0.0
        )
        # In this order: the other way round the assembler (C7515) waits for each instruction of both products.
        total = tl.dot(tl.trans(tile), of_rows, total, input_precision=PRECISION)
        across = tl.dot(tile, w, input_precision=PRECISION)
        place = dlow + (chunk.to(tl.int64) * T + rows)[:, None] * R + r[None, :]
        tl.store(place, across, mask=there[:, None] & (r[None, :] < R))
    place = grad_b + (tl.program_id(1).to(tl.int64) * N + n)[:, None] * R + r[None, :]
    tl.store(place, total, mask=inside[:, None] & (r[None, :] < R))


@triton.jit
def _summed(partial, e, size, first, last, mask, AT_ONCE: tl.constexpr, BLOCK: tl.constexpr):
    """Elements e of partial[first:last], an array (., size), added up, AT_ONCE on their way from memory."""
    total = tl.zeros((BLOCK,), tl.float32)
    for i in tl.range(first, last, AT_ONCE):
        for j in tl.static_range(AT_ONCE):
            total += tl.load(partial + (i + j) * size + e, mask=mask & (i + j < last), other=0.0)
    return total


@triton.jit(do_not_specialize=["T", "runs", "of_dlow"])
def _sum_kernel(
    partial_dlow, partial_b, dlow, grad_b, mask, T, runs, of_dlow, mask_stride, SECOND: tl.constexpr,
    THIRD: tl.constexpr, N: tl.constexpr, PARTS: tl.constexpr, R: tl.constexpr, BN: tl.constexpr,
    MASKED: tl.constexpr, AT_ONCE: tl.constexpr, BLOCK: tl.constexpr,
):
    """The first `of_dlow` programs make dlow of one part each, the others add to dB."""
    program = tl.program_id(0)
    if program < of_dlow:
        ends: tl.constexpr = (SECOND + BN - 1) // BN
        ends_1: tl.constexpr = ends + (THIRD - SECOND + BN - 1) // BN
        last: tl.constexpr = ends_1 + (N - THIRD + BN - 1) // BN
        part = program % PARTS
        e = (program // PARTS) * BLOCK + tl.arange(0, BLOCK)
        inside = e < T * R
        begin = tl.where(part == 0, 0, tl.where(part == 1, ends, ends_1))
        end = tl.where(part == 0, ends, tl.where(part == 1, ends_1, last))
        total = _summed(partial_dlow, e, T * R, begin, end, inside, AT_ONCE, BLOCK)
        row, column = (e // R).to(tl.int64), part * R + e % R
        if MASKED:
            total *= tl.load(mask + row * mask_stride + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(dlow + row * (PARTS * R) + column, total.to(dlow.dtype.element_ty), mask=inside)
    else:
        e = (program - of_dlow) * BLOCK + tl.arange(0, BLOCK)
        inside = e < N * R
        before = tl.load(grad_b + e, mask=inside, other=0.0)
        total = _summed(partial_b, e, N * R, 0, runs, inside, AT_ONCE, BLOCK)
        tl.store(grad_b + e, before + total, mask=inside)


def low_gradients(
    grad: Tensor, low: LowRank, starts: Sequence[int], mask: Tensor | None, grad_b: Tensor
) -> Tensor:
    """dlow (T, parts r), times `mask`; dB is added to `grad_b` (N, r), float32. It and B are contiguous."""
    rows, width = grad.shape
    tile = _tile(grad, low.rank)
    ends = [*starts[1:], *[width] * (MOST_PARTS - len(starts) + 1)]
    chunks = sum(triton.cdiv(b - a, tile.columns) for a, b in zip((0, *ends[:2]), ends, strict=True))
    runs = max(1, tile.programs * multiprocessors(grad.device).count // chunks)
    room = max(1, (SCRATCH - 4 * runs * width * low.rank) // (4 * chunks * low.rank * tile.rows)) * tile.rows
    dlow = torch.empty(rows, low.parts * low.rank, dtype=grad.dtype, device=grad.device)
    for start in range(0, rows, room):
        piece = slice(start, min(start + room, rows))
        _run(
            grad[piece], LowRank(low.low[piece], low.b, low.parts), ends, mask if mask is None else mask[piece],
            grad_b, dlow[piece], tile, chunks, runs,
        )
    return dlow


def _run(
    grad: Tensor, low: LowRank, ends: Sequence[int], mask: Tensor | None, grad_b: Tensor, dlow: Tensor,
    tile: Tile, chunks: int, runs: int,
) -> None:
    """Rows whose sums fit the scratch."""
    rows, width, rank = grad.shape[0], grad.shape[1], low.rank
    each = triton.cdiv(triton.cdiv(rows, runs), tile.rows) * tile.rows
    runs = triton.cdiv(rows, each)
    scratch = torch.empty((chunks * rows + runs * width) * rank, dtype=torch.float32, device=grad.device)
    partial_dlow, partial_b = scratch[: chunks * rows * rank], scratch[chunks * rows * rank :]
    _partial_kernel[(chunks, runs)](
        grad, low.low, low.b, partial_dlow, partial_b, rows, each, grad.stride(0), low.low.stride(0), ends[0],
        ends[1], width, rank, max(16, triton.next_power_of_2(rank)), tile.rows, tile.columns, tile.stages,
        precision(grad), num_warps=tile.warps,
    )
    block = 512
    of_dlow = triton.cdiv(rows * rank, block) * low.parts
    _sum_kernel[(of_dlow + triton.cdiv(width * rank, block),)](
        partial_dlow, partial_b, dlow, grad_b, mask if mask is not None else dlow, rows, runs, of_dlow,
        mask.stride(0) if mask is not None else 0, ends[0], ends[1], width, low.parts, rank, tile.columns,
        mask is not None, 16, block, num_warps=4,
    )
