"""Writing to the cache as a Triton kernel: one launch a block; `Tensor.index_copy_`, twice, is its oracle."""

# fmt: off

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _write_kernel(
    k, v, slots, keys, values, k_stride, v_stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = n < WIDTH
    place = tl.load(slots + row) * WIDTH + n
    tl.store(keys + place, tl.load(k + row * k_stride + n, mask=inside), mask=inside)
    tl.store(values + place, tl.load(v + row * v_stride + n, mask=inside), mask=inside)


def write(k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
    """keys[slots] = k and values[slots] = v, heads (T, Hkv, Dh) that lie together in every row."""
    rows, heads, d = k.shape
    assert k.stride()[1:] == v.stride()[1:] == (d, 1), "the heads of a row lie together"
    width = heads * d
    block = min(4096, triton.next_power_of_2(width))
    _write_kernel[(rows, triton.cdiv(width, block))](
        k, v, slots, keys, values, k.stride(0), v.stride(0), width, block, num_warps=4,
    )
