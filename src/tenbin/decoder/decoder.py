"""Decoder: losses and adapter gradients of a pack, by blocks whose forward and backward are written out."""

from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor, nn

from tenbin.decoder.attend import Plan
from tenbin.decoder.block import Context, Keep, Saved
from tenbin.decoder.families import MakeFrozen, take_apart
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.host import HostMemory
from tenbin.decoder.linear import Routing
from tenbin.decoder.loss import cross_entropy
from tenbin.decoder.pack import PackedBatch

MLP_ROWS = 16384
"""Rows of the widest products in memory at once, where they are not kept."""


class Decoder:
    """A frozen causal language model with LoRA adapters, for training.

    It shares its weights with the model of transformers that it is made from. `use` names the adapters,
    `refresh` takes their weights as they are now, `losses` computes and gathers gradients, and
    `give_gradients` puts them where the optimizers look for them.
    """

    def __init__(self, model: nn.Module, make: MakeFrozen = PlainFrozen) -> None:
        """`make`: how the frozen weights are held: as they are, or in fewer bits."""
        parts = take_apart(model, make)
        self.blocks = parts.blocks
        self._parts = parts
        self._names: tuple[str, ...] = ()
        self._host: HostMemory | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._parts.head.device

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in use."""
        return self._names

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def use(self, names: Sequence[str]) -> None:
        """Train these adapters from now on: each takes part in every pass that routes tokens to it."""
        self._names = tuple(names)
        for block in self.blocks:
            for group in block.groups:
                group.use(names)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the adapters' master weights into the model's type; after every change of theirs."""
        pairs = [pair for block in self.blocks for group in block.groups for pair in group.pairs()]
        if not pairs:
            return
        torch._foreach_copy_([copy for copy, *_ in pairs], [master for _, master, _ in pairs])
        _scale([(copy, factor) for copy, _, factor in pairs])

    @torch.no_grad()
    def losses(
        self,
        batch: PackedBatch,
        routing: Routing | None = None,
        *,
        scales: Tensor | None = None,
        keep: Sequence[Keep] | None = None,
    ) -> Tensor:
        """-log p of every target of a pack, and, with `scales`, gradients of the adapters.

        Args:
            batch: on the decoder's device.
            routing: which tokens belong to which adapter; None: all to the only one in use.
            scales: (N,) factor of each target's loss in the gradient; None: no gradients.
            keep: what each block keeps for its backward pass; None: everything.

        Returns:
            (N,) in nats, float32 or float64.
        """
        routing = routing or Routing(self._names, ((0, batch.num_tokens),))
        x = self._parts.embed(batch.input_ids, batch.position_ids)  # (T, D)
        ctx = Context(
            Plan.make(batch.layout, self.device),
            routing,
            self._parts.rotations(x, batch.position_ids),
            MLP_ROWS,
        )
        saved: list[Saved] = []
        levels = keep if keep is not None else repeat(Keep.ALL, self.num_layers)
        for index, (block, level) in enumerate(zip(self.blocks, levels, strict=True)):
            x, s = block.forward(x, ctx, level if scales is not None else Keep.INPUT)
            if scales is not None:
                saved.append(self._to_host(index, s) if level == Keep.HOST else s)
        states = x[batch.predicts]
        hidden = self._parts.final_norm.forward(states)
        out, slope = cross_entropy(hidden, self._parts.head, batch.labels, scales)
        if slope is not None:
            gradient, _ = self._parts.final_norm.backward(states, slope, torch.zeros_like(slope))
            grad = torch.zeros_like(x)
            grad[batch.predicts] = gradient
            del x, states, hidden, slope
            self._backward(grad, saved, ctx)
        return out

    def _backward(self, grad: Tensor, saved: list[Saved], ctx: Context) -> None:
        for index in reversed(range(self.num_layers)):
            s = saved.pop()
            if self._host is not None:
                s = self._host.back(index, s)
            grad = self.blocks[index].backward(grad, s, ctx)

    def _to_host(self, index: int, s: Saved) -> Saved:
        if self._host is None:
            self._host = HostMemory(self.device)
        return self._host.away(index, s)

    @torch.no_grad()
    def give_gradients(self) -> None:
        """Add what the passes gathered to the master weights' `grad`, and forget it."""
        found: list[tuple[Tensor, Tensor, float]] = []
        for block in self.blocks:
            for group in block.groups:
                if group.grad_a is None:
                    continue
                found += group.gradients()
        _scale([(gradient, factor) for _, gradient, factor in found])
        for master, gradient, _ in found:
            if master.grad is None:
                master.grad = gradient.to(master.dtype).contiguous()
            else:
                master.grad += gradient

    def forget_gradients(self) -> None:
        """Drop what a pass gathered that did not end."""
        for block in self.blocks:
            for group in block.groups:
                group.forget()
        if self._host is not None:
            self._host.forget()


def _scale(tensors: list[tuple[Tensor, float]]) -> None:
    """Multiply each by its factor, in place."""
    there = [(tensor, factor) for tensor, factor in tensors if factor != 1]
    if there:
        torch._foreach_mul_([tensor for tensor, _ in there], [factor for _, factor in there])
