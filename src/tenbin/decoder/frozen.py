"""Frozen: a weight that is not trained, as the products of forward and backward take it; also as a module."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
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


class Packed(Frozen, Protocol):
    """A frozen weight in fewer bits."""

    @property
    def bias(self) -> Tensor | None:
        """(N,)."""
        ...

    @property
    def out_features(self) -> int:
        """N."""
        ...

    def plain(self) -> Tensor:
        """The weight (N, K) in the type of inputs and outputs."""
        ...


class PackedLinear(nn.Module):
    """A weight in fewer bits as a module, for the model of transformers that generates."""

    def __init__(self, frozen: Packed) -> None:
        super().__init__()
        self.frozen = frozen
        self.bias = frozen.bias

    @property
    def weight(self) -> Tensor:
        """(N, K), made anew in the type of inputs and outputs."""
        return self.frozen.plain()

    @property
    def in_features(self) -> int:
        """K."""
        return self.frozen.in_features

    @property
    def out_features(self) -> int:
        """N."""
        return self.frozen.out_features

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N)."""
        return self.frozen.forward(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)
