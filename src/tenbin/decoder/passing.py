"""Pass: what one pass through the blocks takes, on the decoder's device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tenbin.decoder.attend import Plan
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch


@dataclass(frozen=True, slots=True)
class Pass:
    """T tokens in one row, N of them predict a target."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64
    plan: Plan
    routing: Routing
    predicts: Tensor  # (N,) int64
    labels: Tensor  # (N,) int64
    scales: Tensor | None  # (N,), factor of each target's loss in the gradient; None: no gradients

    @classmethod
    def of(cls, batch: PackedBatch, routing: Routing, scales: Tensor | None, device: torch.device) -> "Pass":
        """A pack that is on the device."""
        plan = Plan.make(batch.layout, device)
        return cls(batch.input_ids, batch.position_ids, plan, routing, batch.predicts, batch.labels, scales)
