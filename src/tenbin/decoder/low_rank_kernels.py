"""low B^T of some rows and columns, as other kernels add it on their way."""

# fmt: off

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def low_product(  # noqa: ANN201
    low, b, rows, columns, row_mask, column_mask, low_stride, b_stride, first, R: tl.constexpr, RP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows of `low` (BT, R) from column `first` times rows of B (BN, R) -> (BT, BN)."""
    r = tl.arange(0, RP)
    a = tl.load(
        low + rows[:, None] * low_stride + first + r[None, :], mask=row_mask[:, None] & (r[None, :] < R), other=0.0
    )
    w = tl.load(
        b + columns[None, :] * b_stride + r[:, None], mask=column_mask[None, :] & (r[:, None] < R), other=0.0
    )
    return tl.dot(a, w, input_precision=PRECISION)


def precision(x: Tensor) -> Any:  # noqa: ANN401
    """float32 products in full, whatever the device would rather do."""
    return "ieee" if x.dtype == torch.float32 else "tf32"
