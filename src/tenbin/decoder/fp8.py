"""Fp8Frozen: a frozen weight in 8 bits (e4m3) with a scale for every output row.

    forward   y  = (x_q w_q^T) * s_x * s_w          x_q: rows of x in e4m3, s_x their scales
    backward  dx = (g_q w_q) * s_g,  g = dy * s_w   the weight's scale is folded into the gradient

The product of the backward pass runs over the rows of W, which have scales of their own; folded into dy
first, one copy of the weight serves both directions. Hopper's and Ada's fp8 units take their second operand
in one order only, so the backward pass needs the transposed weight: it is made on the way (one read and one
write of a byte a weight), or kept where there is memory for both (`keep_transposed`).

Source: row-wise scales as in Micikevicius et al. 2022 (arXiv 2209.05433), section 3.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import linear

from tenbin.decoder.pointwise import E4M3, quantized, transposed, wide

_ROWS = 4096
"""Quantized at once: the float32 copy of a whole weight would be the largest thing in memory."""


@dataclass(frozen=True, slots=True)
class Fp8Frozen:
    """A weight (N, K) as e4m3 with row scales."""

    weight: Tensor  # (N, K) e4m3
    row_scale: Tensor  # (N,) float32
    bias: Tensor | None  # (N,)
    dtype: torch.dtype
    """Of inputs and outputs."""
    turned: Tensor | None = None  # (K, N) e4m3: kept, or made in every backward pass

    @classmethod
    def make(cls, weight: Tensor, bias: Tensor | None, *, keep_transposed: bool = False) -> "Fp8Frozen":
        """Quantize a weight (N, K), row by row, to the nearest."""
        parts = [quantized(part.contiguous()) for part in torch.split(weight, _ROWS)]
        bits = torch.cat([q.view(torch.uint8) for q, _ in parts]).view(E4M3)
        scale = torch.cat([s for _, s in parts])[:, 0]
        return cls(bits, scale, bias, weight.dtype, transposed(bits) if keep_transposed else None)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.weight.device

    @property
    def in_features(self) -> int:
        """K."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """N."""
        return self.weight.shape[0]

    def rows(self, start: int, end: int) -> "Fp8Frozen":
        """Output rows [start, end) alone, as views."""
        bias = None if self.bias is None else self.bias[start:end]
        return Fp8Frozen(self.weight[start:end], self.row_scale[start:end], bias, self.dtype)

    def turning(self, *, keep: bool) -> "Fp8Frozen":
        """The same weight, its other order kept or not."""
        return replace(self, turned=transposed(self.weight) if keep else None)

    def plain(self) -> Tensor:
        """The weight in the type of inputs and outputs."""
        return (self.weight.float() * self.row_scale[:, None]).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, K) -> (T, N)."""
        return self.product(*quantized(x))

    def product(self, q: Tensor, scale: Tensor) -> Tensor:
        """Rows in e4m3 (T, K) with their scales (T, 1) -> (T, N)."""
        if not q.is_cuda:
            product = linear(wide(q) * scale, wide(self.weight) * self.row_scale[:, None])
            return (product if self.bias is None else product + self.bias).to(self.dtype)
        return torch._scaled_mm(
            q,
            self.weight.t(),
            scale_a=scale,
            scale_b=self.row_scale[None],
            bias=self.bias,
            out_dtype=self.dtype,
            use_fast_accum=True,
        )

    def backward(self, grad: Tensor) -> Tensor:
        """dy (T, N) -> dx (T, K)."""
        q, scale = quantized(grad, self.row_scale)
        if not grad.is_cuda:
            return ((wide(q) * scale) @ wide(self.weight)).to(self.dtype)
        turned = transposed(self.weight) if self.turned is None else self.turned
        return torch._scaled_mm(
            q,
            turned.t(),
            scale_a=scale,
            scale_b=_ones(self.in_features, grad.device),
            out_dtype=self.dtype,
            use_fast_accum=True,
        )


@lru_cache(maxsize=16)
def _ones(width: int, device: torch.device) -> Tensor:
    """(1, width): the scales of columns that have none."""
    return torch.ones(1, width, device=device)
