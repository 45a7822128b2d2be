"""Decoder: losses and adapter gradients of a pack, by blocks whose forward and backward are written out."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import repeat

import torch
from torch import Tensor, nn

from tenbin.decoder.attend import without_flash
from tenbin.decoder.block import Context, Keep, Saved
from tenbin.decoder.families import MakeFrozen, Parts, take_apart
from tenbin.decoder.fixed import FixedRow
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.host import LEAVE, HostMemory
from tenbin.decoder.linear import Routing
from tenbin.decoder.loss import cross_entropy
from tenbin.decoder.pack import PackedBatch
from tenbin.decoder.passing import Pass
from tenbin.decoder.replay import Replays
from tenbin.decoder.some_rows import Selected, put_back

MLP_ROWS = 16384
"""Rows of the widest products in memory at once, where they are not kept."""


class Decoder:
    """A frozen causal language model with LoRA adapters, for training and for reading (`Reader`).

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
        self._replays: Replays | None = None
        self._masters: tuple[Tensor, ...] = ()
        """The adapters' own weights when `use` was called."""
        self.users: tuple[object, ...] = ()
        """Whose adapters are in use: whoever else has adapters of the same names must call `use`."""
        self._turned = False
        self._given = True
        """What the passes gathered so far was given away: the next begins from 0."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._parts.head.device

    @property
    def parts(self) -> Parts:
        """What the model was taken apart into."""
        return self._parts

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in use."""
        return self._names

    @property
    def replayable(self) -> bool:
        """Whether passes can be CUDA graphs: flash attention finds the segments on the device, others do not.

        Those that serve older GPUs, float32 and wide heads take them from the host, where a graph has none.
        """
        head = self._parts.head
        heads = head.new_empty(0, max(block.head_dim for block in self.blocks))
        return head.is_cuda and without_flash(heads) is None

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def use(self, names: Sequence[str], users: Sequence[object] = ()) -> None:
        """Train these adapters from now on: each takes part in every pass that routes tokens to it.

        Args:
            users: who asked, for `users`.
        """
        self.release()  # graphs know the old adapters' memory
        # Nobody's until all is there: what runs out of memory half way has to be asked for again.
        self._names, self.users, self._given, self._masters = (), (), True, ()
        for block in self.blocks:
            for group in block.groups:
                group.use(names)
        self._names = tuple(names)
        self.refresh()
        self._masters, self.users = self._masters_of(names), tuple(users)

    def holds(self, names: Sequence[str]) -> bool:
        """Whether these are in use, and are still those that the model holds: not removed and made anew."""
        now = self._masters_of(self._names)
        same = len(now) == len(self._masters) and all(a is b for a, b in zip(now, self._masters, strict=True))
        return same and set(names) <= set(self._names)

    def _masters_of(self, names: Sequence[str]) -> tuple[Tensor, ...]:
        parts = [part for block in self.blocks for group in block.groups for part in group.parts]
        layers = [part.layer for part in parts if part.layer is not None]
        return tuple(layer.lora_A[name] for layer in layers for name in names if name in layer.configs)

    def turn(self, *, keep: bool) -> None:
        """Keep frozen weights of 8 bits in their other order too, for the backward pass, or no longer."""
        if keep == self._turned:
            return
        self.release()
        self._turned = keep
        for block in self.blocks:
            for group in block.groups:
                if isinstance(group.frozen, Fp8Frozen):
                    group.frozen = group.frozen.turning(keep=keep)

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
        if scales is not None:
            self._begin_gathering()
        return self._losses(Pass.of(batch, routing, scales, self.device), keep)

    @torch.no_grad()
    def replayed_losses(self, row: FixedRow, keep: Sequence[Keep] | None = None) -> Tensor:
        """The same of a row of one of few shapes, with gradients; from its second time on as a CUDA graph.

        Returns:
            (N,) of the row's own targets, valid until the next pass.
        """
        self._begin_gathering()
        return self._graphs().losses(row, keep)[: row.num_targets]

    @torch.no_grad()
    def replayed_update(self, key: Hashable, update: Callable[[], Tensor]) -> Tensor:
        """Give the gradients, let `update` change the master weights by them, and refresh their copies.

        From its second time on a CUDA graph, so `update` is called twice at most: what it does on the host
        must be done by the caller.

        Returns:
            what `update` gave, valid until the next time.
        """

        def work() -> Tensor:
            self.give_gradients()
            found = update()
            self.refresh()
            return found

        found = self._graphs().result(key, work)
        self._given = True
        return found

    def _graphs(self) -> Replays:
        if self._replays is None:
            self._replays = Replays(self._losses, self.device, self._names)
        return self._replays

    def release(self) -> bool:
        """Give back the memory that CUDA graphs hold; whether there was any."""
        replays, self._replays = self._replays, None
        return replays is not None and replays.clear()

    def _losses(self, p: Pass, keep: Sequence[Keep] | None) -> Tensor:
        x = self._parts.embed(p.input_ids, p.position_ids)  # (T, D)
        # Masks are made anew in every pass: a graph must make its own of the owners that it finds.
        routing = p.routing if p.routing.owners is None else replace(p.routing, masks={})
        ctx = Context(p.plan, routing, self._parts.rotations(x, p.position_ids), MLP_ROWS)
        selected = Selected.of(p.predicts, routing, x.shape[0], self._names)
        contexts = [ctx] * (self.num_layers - 1) + [replace(ctx, selected=selected)]
        if self._host is not None:
            self._host.forget()  # of a pass that did not end
        saved: list[Saved] = []
        levels = keep if keep is not None else repeat(Keep.ALL, self.num_layers)
        for index, (block, level) in enumerate(zip(self.blocks, levels, strict=True)):
            x, s = block.forward(x, contexts[index], level if p.scales is not None else Keep.INPUT)
            if p.scales is not None:
                saved.append(self._left(index, s, level))
            del s  # or what the last block kept would be held until all have gone back
        states = x if selected is not None else x[p.predicts]  # (N, D)
        hidden = self._parts.final_norm.forward(states)
        out, slope = cross_entropy(hidden, self._parts.head, p.labels, p.scales)
        if slope is not None:
            grad, _ = self._parts.final_norm.backward(states, slope, torch.zeros_like(slope))
            if selected is None:
                grad = put_back(grad, p.predicts, x.shape[0])
            del x, states, hidden, slope
            self._backward(grad, saved, contexts)
        return out

    def _backward(self, grad: Tensor, saved: list[Saved], contexts: Sequence[Context]) -> None:
        for index in reversed(range(self.num_layers)):
            # Named nowhere here: the block lets go of its widest part before it is done.
            grad = self.blocks[index].backward(grad, self._back(index, saved.pop()), contexts[index])

    def _back(self, index: int, s: Saved) -> Saved:
        """With what the block left in the computer's memory."""
        return s if self._host is None else self._host.back(index, s)

    def _left(self, index: int, s: Saved, level: Keep) -> Saved:
        """What a block keeps on the device, the rest on its way to the computer's memory."""
        if level in LEAVE:
            if self._host is None:
                self._host = HostMemory(self.device)
            return self._host.away(index, s, LEAVE[level])
        if self._host is not None:
            self._host.passed(index)
        return s

    @torch.no_grad()
    def give_gradients(self) -> None:
        """Add what the passes gathered to the master weights' `grad`; the next pass begins anew.

        Where a master weight has no gradient it gets the memory in which this one gathered: what is read
        there is valid until the next pass.
        """
        if self._given:
            return
        self._given = True
        found = [one for block in self.blocks for group in block.groups for one in group.gradients()]
        _scale([(gradient, factor) for _, gradient, factor in found])
        for master, gradient, _ in found:
            if master.grad is None:
                master.grad = gradient.to(master.dtype).contiguous()
            else:
                shared = master.grad.data_ptr() == gradient.data_ptr()
                assert not shared, "the gradient of the pass before was not taken"
                master.grad += gradient

    def forget_gradients(self) -> None:
        """Drop what a pass gathered that did not end."""
        self._given = True
        if self._host is not None:
            self._host.forget()

    def _begin_gathering(self) -> None:
        """Gradients gather from 0."""
        if self._given:
            there = [one for block in self.blocks for group in block.groups for one in group.gathered()]
            torch._foreach_zero_(there)
            self._given = False


def _scale(tensors: list[tuple[Tensor, float]]) -> None:
    """Multiply each by its factor, in place."""
    there = [(tensor, factor) for tensor, factor in tensors if factor != 1]
    if there:
        torch._foreach_mul_([tensor for tensor, _ in there], [factor for _, factor in there])
