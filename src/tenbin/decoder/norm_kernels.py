"""RMSNorm and LayerNorm as Triton kernels: a program for a row."""

# fmt: off

import torch
import triton
import triton.language as tl
from torch import Tensor

from tenbin.decoder.fp8_kernels import row_factors


def warps_of(width: int) -> int:
    """Warps for a row in a program's registers."""
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


@triton.jit
def _norm_kernel(
    x, weight, bias, out, bits, scale, eps, heads, x_stride, D: tl.constexpr, BLOCK: tl.constexpr,
    LAYER: tl.constexpr, OFFSET: tl.constexpr, QUANTIZED: tl.constexpr,
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
    y = h.to(out.dtype.element_ty)
    tl.store(out + row * D + n, y, mask=inside)
    if QUANTIZED:
        h = y.to(tl.float32)
        inverse, s = row_factors(tl.max(tl.where(inside, tl.abs(h), 0.0), 0))
        tl.store(bits + row * D + n, (h * inverse).to(tl.float8e4nv), mask=inside)
        tl.store(scale + row, s)


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


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, unit_offset: bool) -> Tensor:
    """x (T, D), or (T, H, D) with rows of any stride -> the same shape, contiguous."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _norm(x, weight, bias, eps, unit_offset, out, None)
    return out


def norm_quantized(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, unit_offset: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """x (T, D) -> (its norm, the norm's rows in e4m3, their scales (T, 1))."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    bits = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device)
    _norm(x, weight, bias, eps, unit_offset, out, (bits, scale))
    return out, bits, scale


def _norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, unit_offset: bool, out: Tensor,
    quantized: tuple[Tensor, Tensor] | None,
) -> None:
    d = x.shape[-1]
    heads = x.shape[1] if x.dim() == 3 else 1
    block = triton.next_power_of_2(d)
    _norm_kernel[(out.numel() // d,)](
        x, weight, bias if bias is not None else weight, out, *(quantized or (out, out)), eps, heads, x.stride(0), d,
        block, bias is not None, unit_offset, quantized is not None, num_warps=warps_of(block),
    )


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
        bypass is not None, num_warps=warps_of(block),
    )
    return dx, out
