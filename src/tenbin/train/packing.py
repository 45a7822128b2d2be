"""PackedBatch: examples laid end to end in one row, without padding, and the loss positions in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tenbin.models.attention import Segments
from tenbin.models.encode import Encoded


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One micro-batch. T tokens in one row, N of them predict a target."""

    input_ids: Tensor  # (1, T) int64
    position_ids: Tensor  # (1, T) int64; restart at every example
    segments: Segments
    predicts: Tensor  # (N,) int64: positions whose next token is a target
    labels: Tensor  # (N,) int64: those next tokens

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.input_ids.shape[1]

    @property
    def num_targets(self) -> int:
        """N."""
        return self.labels.shape[0]

    def to(self, device: torch.device) -> "PackedBatch":
        """The same batch on a device."""
        return PackedBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.segments,
            self.predicts.to(device),
            self.labels.to(device),
        )


def pack(examples: Sequence[Encoded], loss_on: Literal["response", "all"]) -> PackedBatch:
    """Lay examples end to end. With `loss_on="all"` every token but each example's first is a target."""
    ids: list[int] = []
    positions: list[int] = []
    predicts: list[int] = []
    labels: list[int] = []
    offsets = [0]
    for example in examples:
        tokens = [*example.prompt_ids, *example.target_ids]
        first_target = len(example.prompt_ids) if loss_on == "response" else 1
        base = offsets[-1]
        ids += tokens
        positions += range(len(tokens))
        predicts += range(base + first_target - 1, base + len(tokens) - 1)
        labels += tokens[first_target:]
        offsets.append(base + len(tokens))
    return PackedBatch(
        torch.tensor([ids]),
        torch.tensor([positions]),
        Segments(tuple(offsets)),
        torch.tensor(predicts),
        torch.tensor(labels),
    )


def micro_batches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Group the examples of one step, first fit in order of falling length, into rows of `most_tokens`.

    Args:
        lengths: tokens of each example.
        most_tokens: of one row; a longer example has a row of its own.

    Returns:
        indices into `lengths`; every index once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order:
        place = next((r for r, room in enumerate(free) if room >= lengths[i]), None)
        if place is None:
            rows.append([i])
            free.append(most_tokens - lengths[i])
        else:
            rows[place].append(i)
            free[place] -= lengths[i]
    return rows
