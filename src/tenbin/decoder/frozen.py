"""Frozen: a weight that is not trained, as the products of forward and backward take it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear


class Frozen(Protocol):
    """y = x W^T + bias and dx = dy W for a frozen W (N, K)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    @property
    def in_features(self) -> int:
        """K."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """x (T, K) -> (T, N), fresh memory."""
        ...

    def backward(self, grad: Tensor) -> Tensor:
        """dy (T, N) -> dx (T, K), fresh memory."""
        ...


@dataclass(frozen=True, slots=True)
class PlainFrozen:
    """The weight as it is."""

    weight: Tensor  # (N, K), any strides
    bias: Tensor | None  # (N,)

    @property
    def dtype(self) -> torch.dtype:
        """Of weight, inputs and outputs."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.weight.device

    @property
    def in_features(self) -> int:
        """K."""
        return self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """x (T, K) -> (T, N)."""
        return linear(x, self.weight, self.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """dy (T, N) -> dx (T, K)."""
        return grad @ self.weight
