"""Away: which blocks' wide products may wait in the computer's memory instead of being made twice. No torch.

A GPU copies to the computer's memory while it computes. What is copied during a forward pass costs no time as
long as the copies keep up, and the backward pass, which takes twice as long, has time to bring it back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BYTES_PER_OPERATION = 7e-5
"""Copied while the GPU does one operation in bf16: 55 GB/s beside 690 TFLOP/s on an H200 are 8e-5; older
GPUs copy at half of that and compute at a third, or less."""
LEAST_OPERATIONS = 10**12
"""Of one block's forward pass: where there are fewer, a row is better a CUDA graph, which cannot copy."""
LAST_STAY = (2, 4, 6, 9)
"""Last blocks that keep what they have, tried in turn: they are needed again before it would be away, and
what they give back is the room for what returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """What it would save, and how much of it is possible."""

    room_bytes: int
    """Of the computer's memory."""
    token_operations: int
    """Of one block's forward pass and token, but for attention; in the time that those in bf16 take."""
    key_operations: int
    """Of attention, a token and key."""
    repeated: tuple[int, ...]
    """Operations a token that the backward pass makes again, but for attention, by level up to ALL."""
    repeats_attention: tuple[bool, ...]
    """Whether attention is made again, by level up to ALL."""

    def most(self, num_tokens: int, num_layers: int, token_bytes: int) -> int:
        """Blocks whose products can wait, by the room and by what is copied during one forward pass.

        Args:
            token_bytes: of one block's and token's products.
        """
        block = self._operations(num_tokens)
        each = token_bytes * num_tokens
        if block < LEAST_OPERATIONS:
            return 0
        copied = int(BYTES_PER_OPERATION * block * num_layers)
        return max(0, min(num_layers - LAST_STAY[0], self.room_bytes // each, copied // each))

    def _operations(self, num_tokens: int) -> int:
        """Of one block's forward pass over a row, which is taken for one text: where it is several, attention
        is too little of it to matter."""
        return num_tokens * (self.token_operations + self.key_operations * num_tokens // 2)

    def repeated_operations(self, level: int, num_tokens: int) -> int:
        """What a block of a level (up to ALL) makes again in its backward pass."""
        attention = self.key_operations * num_tokens // 2 if self.repeats_attention[level] else 0
        return num_tokens * (self.repeated[level] + attention)


def places(count: int, num_layers: int) -> Iterator[frozenset[int]]:
    """Ways to spread so many over the blocks, evenly but for the last ones, so that copies keep up."""
    for stay in LAST_STAY:
        first = num_layers - stay
        if count <= first:
            yield frozenset(int((i + 0.5) * first / count) for i in range(count))
