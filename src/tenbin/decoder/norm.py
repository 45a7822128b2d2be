"""Norm: RMSNorm or LayerNorm with frozen weights, forward and backward."""

from dataclasses import dataclass

from torch import Tensor

from tenbin.decoder import pointwise


@dataclass(frozen=True, slots=True)
class Norm:
    """Over the last dimension."""

    weight: Tensor  # (D,)
    eps: float
    bias: Tensor | None = None
    """LayerNorm has one; None: RMSNorm."""
    unit_offset: bool = False
    """Gemma's weights are kept as their difference from 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D)."""
        return pointwise.norm(x, self.weight, self.bias, self.eps, unit_offset=self.unit_offset)

    def quantized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, D) -> (the output, its rows in e4m3, their scales (T, 1)), in one pass on a GPU."""
        return pointwise.norm_quantized(x, self.weight, self.bias, self.eps, unit_offset=self.unit_offset)

    def backward(self, x: Tensor, grad: Tensor, bypass: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(dx, the norm's output again).

        Args:
            x: the input.
            grad: of the output.
            bypass: gradient that reaches x by the residual stream, added to dx.
        """
        return pointwise.norm_backward(
            x, grad, bypass, self.weight, self.bias, self.eps, unit_offset=self.unit_offset
        )
