"""Replays: passes of few shapes as CUDA graphs, launched at once instead of kernel by kernel.

A row of some hundred tokens takes a GPU less time than it takes a CPU to launch its two thousand kernels. A
graph is launched in one call. It reads its inputs where they always stand, so they are copied there first, in
one piece. A shape runs kernel by kernel the first time (kernels are compiled and tuned), is recorded the
second, and replayed from then on. All graphs share their working memory, which is never given back while one
of them lives: `clear` does that before something else needs it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from tenbin.decoder import tree_attention
from tenbin.decoder.attend import Plan, Spans
from tenbin.decoder.block import Keep
from tenbin.decoder.fixed import FixedRow, Shape
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import placed
from tenbin.decoder.passing import Pass
from tenbin.decoder.recording import recorded

MOST_GRAPHS = 24
"""Recorded at once; the one that was longest without use goes first."""
ALIGNMENT = 16
"""Bytes."""
Run = Callable[[Pass, Sequence[Keep] | None], Tensor]


@dataclass(slots=True)
class _Recorded:
    """Work of one kind, and its graph from the second time on."""

    work: Callable[[], Tensor]
    graph: torch.cuda.CUDAGraph | None = None
    result: Tensor | None = None


class Replays:
    """The graphs of one decoder."""

    def __init__(self, run: Run, device: torch.device, names: Sequence[str]) -> None:
        """`run` computes the losses of a pass and gathers gradients where they always gather.

        Args:
            names: of the adapters in use.
        """
        self._run = run
        self._device = device
        self._names = tuple(names)
        self._known: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._inputs: dict[Hashable, tuple[Tensor, Pass]] = {}
        """(bytes, the pass that reads them) of the known rows."""
        self._failed = False
        """A graph could not be made, for whatever it lacked."""

    def losses(self, row: FixedRow, keep: Sequence[Keep] | None) -> Tensor:
        """(N,) of all targets of the row's shape, valid until the next pass.

        Args:
            keep: what each block keeps, none in the computer's memory: a graph does not reach there.
        """
        key = (row.shape, None if keep is None else tuple(keep))
        parts = _inputs(row)
        if key not in self._inputs:
            inputs = torch.empty(_ends(parts)[-1], dtype=torch.uint8, device=self._device)
            self._inputs[key] = inputs, self._entry(row.shape, parts, inputs)
        inputs, entry = self._inputs[key]
        inputs.copy_(placed(_joined(parts), self._device))
        return self.result(key, lambda: self._run(entry, keep))

    def result(self, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        """What `work` gives, valid until the next time: its first `work` is that which is recorded.

        Args:
            key: of work that does the same from time to time, but for what it reads where it always reads it.
        """
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Recorded(work)
            self._forget_the_oldest()
            return work()
        self._known.move_to_end(key)
        if known.graph is None:
            self._record(known)
        assert known.graph is not None
        assert known.result is not None
        known.graph.replay()
        return known.result

    def _forget_the_oldest(self) -> None:
        while len(self._known) > MOST_GRAPHS:
            key, _ = self._known.popitem(last=False)
            self._inputs.pop(key, None)

    def _entry(self, shape: Shape, parts: Sequence[Tensor], inputs: Tensor) -> Pass:
        """The pass whose tensors are the parts' places in `inputs`."""
        ids, positions, predicts, labels, scales, own, *others = _views(parts, inputs)
        # Kernels read where runs begin on the device; here only how many there are is told.
        around = (0, shape.num_tokens) if shape.one else (0, *[shape.num_tokens] * shape.num_runs)
        spans = Spans(around, around, own, own, shape.longest, shape.longest)
        across = None
        if shape.num_shared:
            queries, keys, *others = others
            across = Spans(around, around, queries, keys, shape.longest_branches, shape.longest_prefix)
        bounds = None
        if shape.tree:
            bounds, *others = others
        whole = ((0, shape.num_tokens),) * len(self._names)
        routing = Routing(self._names, whole, owners=others[0] if others else None)
        return Pass(ids, positions, Plan(spans, across, bounds=bounds), routing, predicts, labels, scales)

    def clear(self) -> bool:
        """Forget all graphs and give their memory back; whether there was one, or was to be one."""
        any_there = self._failed or any(known.graph is not None for known in self._known.values())
        self._known.clear()
        self._inputs.clear()
        if any_there:
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        return any_there

    def _record(self, known: _Recorded) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # while a graph is recorded no memory of others can be taken
        there = next((other.graph for other in self._known.values() if other.graph is not None), None)
        pool = there.pool() if there is not None else torch.cuda.graph_pool_handle()
        self._failed = True  # also where the driver has no room for what is launched, which no pool holds
        known.graph, known.result = recorded(known.work, pool, self._device)
        self._failed = False


def _inputs(row: FixedRow) -> list[Tensor]:
    """What changes from row to row, in the order in which `_entry` takes it."""
    batch, shape, layout = row.batch, row.shape, row.batch.layout
    found = [batch.input_ids, batch.position_ids, batch.predicts, batch.labels, row.scales]
    found.append(_offsets(layout.offsets, shape.num_runs))
    if shape.num_shared:
        found += [_offsets(offsets, shape.num_shared) for offsets in layout.across()]
    if shape.tree:
        found.append(tree_attention.bounds(layout))
    if row.owners is not None:
        found.append(row.owners)
    return found


def _offsets(offsets: Sequence[int], num_runs: int) -> Tensor:
    """(runs + 1,) int32; what is too many are runs of nothing."""
    return torch.tensor([*offsets, *[offsets[-1]] * (num_runs + 1 - len(offsets))], dtype=torch.int32)


def _ends(parts: Sequence[Tensor]) -> list[int]:
    """Where each part ends, in bytes."""
    return list(accumulate(-(-part.nbytes // ALIGNMENT) * ALIGNMENT for part in parts))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    whole = torch.zeros(_ends(parts)[-1], dtype=torch.uint8)
    for part, view in zip(parts, _views(parts, whole), strict=True):
        view.copy_(part)
    return whole


def _views(parts: Sequence[Tensor], whole: Tensor) -> list[Tensor]:
    """The parts' places in one tensor of bytes."""
    ends = _ends(parts)
    starts = [0, *ends[:-1]]
    return [
        whole[start : start + part.nbytes].view(part.dtype).view(part.shape)
        for part, start in zip(parts, starts, strict=True)
    ]
