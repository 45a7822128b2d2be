"""PackedBatch: the tokens of one micro-batch in one row, who attends to whom, and what is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenbin.decoder.layout import Layout, Run, joined


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One micro-batch. T tokens in one row, N of them predict a target."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64; restart at every sequence, go on after a shared prefix
    layout: Layout
    predicts: Tensor  # (N,) int64: positions whose next token is a target, each once
    labels: Tensor  # (N,) int64: those next tokens
    examples: tuple[int, ...] = ()
    """Number of each segment's example in the step, for dropout; () where nothing is dropped."""

    @classmethod
    def of(
        cls,
        ids: Sequence[int],
        layout: Layout,
        predicts: Sequence[int],
        labels: Sequence[int],
        examples: tuple[int, ...] = (),
    ) -> "PackedBatch":
        """A row of these tokens, positions counted along each sequence of the layout."""
        return cls(
            torch.tensor(ids),
            torch.tensor(layout.positions()),
            layout,
            torch.tensor(predicts),
            torch.tensor(labels),
            examples,
        )

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.input_ids.shape[0]

    @property
    def num_targets(self) -> int:
        """N."""
        return self.labels.shape[0]

    def to(self, device: torch.device) -> "PackedBatch":
        """The same batch on a device."""
        return replace(
            self,
            input_ids=placed(self.input_ids, device),
            position_ids=placed(self.position_ids, device),
            predicts=placed(self.predicts, device),
            labels=placed(self.labels, device),
        )


def placed(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what the device is doing."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def join(packs: Sequence[PackedBatch]) -> tuple[PackedBatch, tuple[Run, ...]]:
    """Several batches as one row: the batch, and where its tokens come from.

    Targets stay in order, batch by batch. Tokens do too where nothing is shared (see `layout.joined`).
    """
    layout, runs = joined([p.layout for p in packs])
    if len(packs) == 1:
        return packs[0], runs
    predicts = [torch.empty_like(p.predicts) for p in packs]
    for run in runs:
        places = packs[run.row].predicts
        inside = (places >= run.start) & (places < run.end)
        predicts[run.row][inside] = places[inside] - run.start + run.place
    batch = PackedBatch(
        torch.cat([packs[run.row].input_ids[run.start : run.end] for run in runs]),
        torch.cat([packs[run.row].position_ids[run.start : run.end] for run in runs]),
        layout,
        torch.cat(predicts),
        torch.cat([p.labels for p in packs]),
        tuple(number for p in packs for number in p.examples),
    )
    return batch, runs
