"""TrainJob: one adapter with its optimizer, schedule and data order; all chance is a function of the seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tenbin.config import TrainingConfig
from tenbin.decoder.pack import PackedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """One optimizer step."""

    step: int
    """From 1."""
    epoch: int
    """From 1."""
    loss: float
    """Mean over the step's targets, in nats a token."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    num_tokens: int
    num_targets: int
    num_examples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """What one adapter does in a step to come."""

    key: tuple[int, int]
    """(step, most tokens of a micro-batch)."""
    packs: list[PackedBatch]
    num_examples: int


def scheduled_rate(
    step: int, num_steps: int, peak: float, schedule: Literal["linear", "cosine", "constant"], warmup: float
) -> float:
    """Learning rate of step `step` (from 0) of `num_steps`.

    Rises linearly over the first ceil(warmup * num_steps) steps, its first value above 0, then falls to 0
    just after the last step (linear, cosine) or stays.
    """
    num_warmup = math.ceil(warmup * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    if schedule == "constant":
        return peak
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    if schedule == "linear":
        return peak * (1 - done)
    return peak * (1 + math.cos(math.pi * done)) / 2


def data_order(groups: Sequence[str | None], seed: int, epoch: int) -> list[int]:
    """Order of the examples in an epoch (from 1). It does not depend on packing, device or other jobs.

    Args:
        groups: one an example. Examples of one group follow one another, in an order drawn anew as well;
            None: an example by itself.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    drawn: list[int] = torch.randperm(len(groups), generator=generator).tolist()
    first = {group: i for i, group in zip(reversed(drawn), (groups[i] for i in reversed(drawn)), strict=True)}
    place = {i: rank for rank, i in enumerate(drawn)}
    return sorted(drawn, key=lambda i: place[i if groups[i] is None else first[groups[i]]])


class TrainJob:
    """One adapter's whole training state, apart from the weights' place in the model."""

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Tensor],
        config: TrainingConfig,
        *,
        rate: float,
        seed: int,
        drops: bool = False,
    ) -> None:
        """`drops`: the adapter has dropout."""
        self.name = name
        self.drops = drops
        self.parameters = dict(parameters)
        self.config = config
        self.rate = rate
        self.seed = seed
        self.step = 0
        self._order: tuple[int, list[int]] | None = None
        self.ahead: Ahead | None = None
        """The next step's packs, made while the device was at work."""
        values = list(self.parameters.values())
        gpu = values[0].is_cuda
        self.optimizer = torch.optim.AdamW(
            values,
            lr=torch.tensor(rate, device=values[0].device) if gpu else rate,  # read by a CUDA graph
            weight_decay=config.weight_decay,
            betas=(0.9, 0.999),
            fused=gpu,  # one kernel for all weights
            capturable=gpu,
        )
        # Now, not in the first step: what does not fit is known before anything is changed.
        for value in values:
            on = value.device if value.is_cuda else torch.device("cpu")
            self.optimizer.state[value] = {
                "step": torch.zeros((), dtype=torch.float32, device=on),
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.zeros_like(value),
            }

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of the whole training."""
        return self.config.epochs * self.steps_per_epoch(num_examples)

    def steps_per_epoch(self, num_examples: int) -> int:
        """The last step of an epoch may have fewer examples; none are left out."""
        return math.ceil(num_examples / self.config.batch_size)

    def batch(self, groups: Sequence[str | None], step: int) -> list[int]:
        """Indices of the examples of a step (from 0).

        Args:
            groups: of all examples, as `data_order` takes them.
        """
        epoch, position = divmod(step, self.steps_per_epoch(len(groups)))
        if self._order is None or self._order[0] != epoch:
            together = groups if self.config.order == "grouped" else [None] * len(groups)
            self._order = (epoch, data_order(together, self.seed, epoch + 1))
        order = self._order[1]
        return order[position * self.config.batch_size : (position + 1) * self.config.batch_size]

    def set_rate(self, num_examples: int) -> float:
        """Set the learning rate of the step that comes, and give it."""
        rate = scheduled_rate(
            self.step, self.num_steps(num_examples), self.rate, self.config.schedule, self.config.warmup
        )
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        return rate

    def clip(self) -> Tensor:
        """Clip this adapter's gradients.

        Returns:
            (), the norm of the gradients before clipping, on their device.
        """
        values = list(self.parameters.values())
        limit = self.config.max_grad_norm
        return torch.nn.utils.clip_grad_norm_(values, limit if limit is not None else math.inf)

    def update(self) -> None:
        """Change this adapter's weights by their gradients and clear these. No step is counted."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and optimizer moments by name, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            found[f"parameter/{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{key}/{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take the state of a checkpoint."""
        self.step = step
        moments = sorted({key.split("/", 1)[0] for key in tensors} - {"parameter"})
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                self.optimizer.state[parameter] = {
                    key: tensors[f"{key}/{name}"].to(parameter.device, copy=True) for key in moments
                }
