"""Nf4Frozen: a frozen weight in 4 bits (NormalFloat), a scale for every 64 elements; needs bitsandbytes.

    w = NF4[code] * s,   s = DYNAMIC[scale code] * t + offset

The codes of 64 neighbours of a row share a scale s, those of 256 scales a scale t: 4.127 bits a weight. For
each product the weight is made anew in the type of inputs and outputs and let go again, so the products
themselves are as exact as that type, and one whole weight is in memory at a time.

Source: Dettmers et al. 2023 (arXiv 2305.14314), section 3: 4-bit NormalFloat and double quantization.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from tenbin.errors import ModelError, Problem

BLOCK = 64
"""Weights that share a scale."""
SCALES = 256
"""Scales that share a scale."""


@dataclass(frozen=True, slots=True)
class Nf4Frozen:
    """A weight (N, K), or some of its rows, as 4-bit codes with scales in 8 bits."""

    codes: Tensor  # (N K / 2, 1) uint8: two codes each, of the rows that are held
    scale_codes: Tensor  # (blocks of the whole weight,) uint8
    scale_scales: Tensor  # (ceil(blocks / 256),) float32
    scale_table: Tensor  # (256,) float32
    offset: Tensor  # () float32
    bias: Tensor | None  # (N,)
    shape: tuple[int, int]
    """(N, K) of the rows that are held."""
    first: int
    """Block of the whole weight that the first row begins with."""
    dtype: torch.dtype
    """Of inputs and outputs."""

    @classmethod
    def make(cls, weight: Tensor, bias: Tensor | None) -> "Nf4Frozen":
        """Quantize a weight (N, K), where it is.

        Raises:
            ModelError: it is in a type that bitsandbytes does not take.
        """
        if weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            found = f"a weight in {weight.dtype} cannot be held in 4 bits"
            remedy = 'set training.dtype to "bf16" or "fp32"'
            raise ModelError(Problem(where="training.base_dtype", found=found, remedy=remedy))
        codes, state = _library().quantize_4bit(
            weight.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        assert state.state2.blocksize == SCALES
        return cls(
            codes,
            state.absmax,
            state.state2.absmax,
            state.state2.code,
            state.offset,
            bias,
            (weight.shape[0], weight.shape[1]),
            0,
            weight.dtype,
        )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.codes.device

    @property
    def in_features(self) -> int:
        """K."""
        return self.shape[1]

    @property
    def out_features(self) -> int:
        """N."""
        return self.shape[0]

    def rows(self, start: int, end: int) -> "Nf4Frozen":
        """Output rows [start, end) alone; the codes are views.

        Raises:
            ModelError: a block of 64 lies across their border.
        """
        size = self.shape[1]
        if start * size % BLOCK or (end * size % BLOCK and end != self.shape[0]):
            found = f"rows of {size} elements do not divide into blocks of {BLOCK} at row {start} or {end}"
            raise ModelError(
                Problem(where="training.base_dtype", found=found, remedy='set it to "same" for this model')
            )
        return replace(
            self,
            codes=self.codes[start * size // 2 : (end * size + 1) // 2],
            bias=None if self.bias is None else self.bias[start:end],
            shape=(end - start, size),
            first=self.first + start * size // BLOCK,
        )

    def plain(self) -> Tensor:
        """The weight in the type of inputs and outputs."""
        library = _library()
        blocks = -(-self.shape[0] * self.shape[1] // BLOCK)
        scales = library.dequantize_blockwise(
            self.scale_codes, absmax=self.scale_scales, code=self.scale_table, blocksize=SCALES
        ).add_(self.offset)[self.first : self.first + blocks]
        # As one long row: blocks do not end with the rows of a weight.
        state = library.QuantState(
            absmax=scales,
            shape=torch.Size((self.shape[0] * self.shape[1],)),
            dtype=self.dtype,
            blocksize=BLOCK,
            quant_type="nf4",
        )
        weight: Tensor = library.dequantize_4bit(self.codes, state)
        return weight.view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, K) -> (T, N)."""
        return linear(x, self.plain(), self.bias)

    def backward(self, grad: Tensor) -> Tensor:
        """dy (T, N) -> dx (T, K)."""
        return grad @ self.plain()


@lru_cache(maxsize=1)
def _library() -> Any:  # noqa: ANN401  (its own functions have few types)
    """bitsandbytes' functions, loaded when they are first needed."""
    with _nothing_fetched():
        from bitsandbytes import functional
    return functional


@contextmanager
def _nothing_fetched() -> Iterator[None]:
    """On a CPU bitsandbytes asks a hub for a faster kernel while it is loaded: no network, and none of that
    kernel's products are used here."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    there, disabled = "kernels" in sys.modules, logger.disabled
    logger.disabled = True  # it warns that it did not get it
    if not there:
        sys.modules["kernels"] = None  # type: ignore[assignment]  # importing it fails from now on
    try:
        yield
    finally:
        logger.disabled = disabled
        if not there:
            del sys.modules["kernels"]
