"""Bringing rows to 8 bits, and turning a weight of 8 bits round, as Triton kernels."""

# fmt: off

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.multiprocessors import multiprocessors

STAGES = 3
"""Rows of a program at once: one is worked on, the others are on their way from memory."""
WIDEST = 32768
"""Of rows that a program holds whole."""


@triton.jit
def row_factors(largest):  # noqa: ANN201
    """(1 / scale, scale) of a row: one exact division instead of one an element."""
    largest = tl.maximum(largest, 1e-12)
    return tl.div_rn(448.0, largest), largest * (1 / 448)


@triton.jit(do_not_specialize=["rows"])
def _quantize_kernel(
    x, row_scale, out, scale, rows, x_stride, K: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr,
    SCALED: tl.constexpr, STAGES: tl.constexpr,
):
    """Whole rows, read once, in two pieces: few widths are powers of two."""
    n = tl.arange(0, FIRST)
    by, by_rest = 1.0, 1.0
    if SCALED:
        by = tl.load(row_scale + n, eviction_policy="evict_last")
    if REST > 0:
        m = FIRST + tl.arange(0, REST)
        if SCALED:
            by_rest = tl.load(row_scale + m, mask=m < K, other=0.0, eviction_policy="evict_last")
    begin, programs = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    for i in tl.range(0, tl.cdiv(rows - tl.program_id(0), programs), num_stages=STAGES):
        row = begin + i * programs
        h = tl.load(x + row * x_stride + n, eviction_policy="evict_first").to(tl.float32)
        if REST > 0:
            rest = tl.load(x + row * x_stride + m, mask=m < K, other=0.0, eviction_policy="evict_first").to(tl.float32)
        if SCALED:
            h *= by
        largest = tl.max(tl.abs(h), 0)
        if REST > 0:
            if SCALED:
                rest *= by_rest
            largest = tl.maximum(largest, tl.max(tl.abs(rest), 0))
        inverse, s = row_factors(largest)
        tl.store(out + row * K + n, (h * inverse).to(tl.float8e4nv))
        if REST > 0:
            tl.store(out + row * K + m, (rest * inverse).to(tl.float8e4nv), mask=m < K)
        tl.store(scale + row, s)


@triton.jit
def _quantize_in_pieces_kernel(
    x, row_scale, out, scale, x_stride, K: tl.constexpr, BLOCK: tl.constexpr, SCALED: tl.constexpr,
):
    """Rows too wide to be held: read twice."""
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK)
    largest = 0.0
    for c in tl.range(0, K, BLOCK):
        h = tl.load(x + row * x_stride + c + n, mask=c + n < K, other=0.0).to(tl.float32)
        if SCALED:
            h *= tl.load(row_scale + c + n, mask=c + n < K, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(h), 0))
    inverse, s = row_factors(largest)
    for c in tl.range(0, K, BLOCK):
        h = tl.load(x + row * x_stride + c + n, mask=c + n < K, other=0.0).to(tl.float32)
        if SCALED:
            h *= tl.load(row_scale + c + n, mask=c + n < K, other=0.0)
        tl.store(out + row * K + c + n, (h * inverse).to(tl.float8e4nv), mask=c + n < K)
    tl.store(scale + row, s)


def quantized(x: Tensor, row_scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """(T, K) (times `row_scale` (K,)) -> its rows in e4m3, and their scales (T, 1)."""
    rows, k = x.shape
    out = torch.empty(rows, k, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    by = row_scale if row_scale is not None else scale
    if k > WIDEST:
        _quantize_in_pieces_kernel[(rows,)](
            x, by, out, scale, x.stride(0), k, 8192, row_scale is not None, num_warps=8,
        )
        return out, scale
    first = 1 << (k.bit_length() - 1)
    rest = triton.next_power_of_2(k - first) if k > first else 0
    programs, stages = rows, 1
    if row_scale is not None:  # it is read once for all rows of a program; without it there is nothing to keep
        gpu = multiprocessors(x.device)
        programs = min(rows, _programs(k) * gpu.count)
        stages = min(STAGES, 1 + gpu.shared_bytes // ((first + rest) * x.element_size()))
    _quantize_kernel[(programs,)](
        x, by, out, scale, rows, x.stride(0), k, first, rest, row_scale is not None, stages, num_warps=_warps(k),
    )
    return out, scale


def _warps(width: int) -> int:
    return 4 if width <= 2048 else 8


def _programs(width: int) -> int:
    """Of one multiprocessor: as many as have room for their rows, which each takes one after another."""
    return 1 if width > 16384 else 2 if width > 8192 else 4 if width > 2048 else 8


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
