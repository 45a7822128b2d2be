"""The steps of `joining` as Triton kernels: which rows they touch is read from the device."""

# fmt: off

import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["last", "sum_h", "other_sum_h"])
def _merge_kernel(
    out, log_sum, other, other_sum, bounds, last, out_t, out_h, other_t, other_h, sum_t, sum_h, other_sum_t,
    other_sum_h, H, D: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, BOUNDED: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64)
    if BOUNDED:  # noqa: SIM102  (the loads may only be compiled where there are bounds)
        if (t < tl.load(bounds)) | (t >= tl.load(bounds + last)):
            return
    h = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    n = tl.arange(0, WIDTH)
    there = h < H
    mask = there[:, None] & (n < D)[None, :]
    a = tl.load(log_sum + t * sum_t + h * sum_h, mask=there, other=0.0)
    b = tl.load(other_sum + t * other_sum_t + h * other_sum_h, mask=there, other=0.0)
    b = tl.where((b > 3e38) | (b < -3e38), -1e38, b)  # an infinity: it saw no key
    most = tl.maximum(a, b)
    total = most + tl.log(tl.exp(a - most) + tl.exp(b - most))
    place = out + t * out_t + h[:, None] * out_h + n[None, :]
    x = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(other + t * other_t + h[:, None] * other_h + n[None, :], mask=mask, other=0.0).to(tl.float32)
    second = tl.exp(b - total)[:, None]
    z = x * tl.exp(a - total)[:, None] + tl.where(second > 0, y * second, 0.0)
    tl.store(place, z.to(out.dtype.element_ty), mask=mask)
    tl.store(log_sum + t * sum_t + h * sum_h, total, mask=there)


def merge_(out: Tensor, log_sum: Tensor, other: Tensor, other_sum: Tensor, bounds: Tensor | None) -> None:
    """(T, H, Dh) and (T, H), the first two in place, in rows [bounds[0], bounds[-1]) or in all."""
    rows, heads, d = out.shape
    width = triton.next_power_of_2(d)
    block = min(triton.next_power_of_2(heads), max(1, 4096 // width))
    _merge_kernel[(rows, triton.cdiv(heads, block))](
        out, log_sum, other, other_sum, out if bounds is None else bounds,
        0 if bounds is None else bounds.shape[0] - 1, out.stride(0), out.stride(1), other.stride(0),
        other.stride(1), log_sum.stride(0), log_sum.stride(1), other_sum.stride(0), other_sum.stride(1),
        heads, d, width, block, bounds is not None, num_warps=4,
    )


@triton.jit(do_not_specialize=["last"])
def _add_rows_kernel(
    total, part, bounds, last, total_t, total_h, part_t, part_h, H, D: tl.constexpr, WIDTH: tl.constexpr,
    HEADS: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64)
    if (t < tl.load(bounds)) | (t >= tl.load(bounds + last)):
        return
    h = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    n = tl.arange(0, WIDTH)
    mask = (h < H)[:, None] & (n < D)[None, :]
    place = total + t * total_t + h[:, None] * total_h + n[None, :]
    x = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(part + t * part_t + h[:, None] * part_h + n[None, :], mask=mask, other=0.0).to(tl.float32)
    tl.store(place, (x + y).to(total.dtype.element_ty), mask=mask)


def add_rows_(total: Tensor, part: Tensor, bounds: Tensor) -> None:
    """(T, H, Dh), the first in place, in rows [bounds[0], bounds[-1])."""
    rows, heads, d = total.shape
    width = triton.next_power_of_2(d)
    block = min(triton.next_power_of_2(heads), max(1, 4096 // width))
    _add_rows_kernel[(rows, triton.cdiv(heads, block))](
        total, part, bounds, bounds.shape[0] - 1, total.stride(0), total.stride(1), part.stride(0),
        part.stride(1), heads, d, width, block, num_warps=4,
    )
