"""KVCache: keys and values of everything that is being read, in memory that is laid out once."""

import torch
from torch import Tensor

from tenbin.decoder.block import Block, Heads
from tenbin.decoder.pointwise import has_kernels


class KVCache:
    """For every block C + 1 slots of keys and of values, (C + 1, Hkv, Dh) each.

    A sequence has neighbouring slots, in the order of its tokens, for as long as it is read: nothing is ever
    moved. The last slot is no sequence's: what must be written somewhere and is never read goes there.
    """

    def __init__(
        self, blocks: tuple[Block, ...], num_slots: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`num_slots`: C, tokens.

        Raises:
            OutOfMemoryError: the device has not so much.
        """
        self.num_slots = num_slots
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for block in blocks:
            shape = (num_slots + 1, block.num_kv_heads, block.head_dim)
            for arena in (self.keys, self.values):
                arena.append(torch.empty(shape, dtype=dtype, device=device))
                arena[-1][num_slots] = 0  # its keys are met, and dropped: they must be numbers

    @property
    def unread(self) -> int:
        """The slot that is no sequence's."""
        return self.num_slots

    def write(self, layer: int, slots: Tensor, heads: Heads) -> None:
        """Put keys and values (T, Hkv, Dh) of one block into their slots (T,)."""
        if has_kernels(heads.k):
            from tenbin.decoder import cache_kernels

            cache_kernels.write(heads.k, heads.v, slots, self.keys[layer], self.values[layer])
        else:
            self.keys[layer].index_copy_(0, slots, heads.k)
            self.values[layer].index_copy_(0, slots, heads.v)


def bytes_per_slot(blocks: tuple[Block, ...], dtype: torch.dtype) -> int:
    """Of all blocks: keys and values of one token."""
    return 2 * dtype.itemsize * sum(block.num_kv_heads * block.head_dim for block in blocks)
