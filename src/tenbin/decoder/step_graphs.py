"""StepGraphs: passes of one new token a sequence, repeated as CUDA graphs.

A pass over few tokens is some thousand small launches, which take Python longer than the GPU. A graph is one
launch, of fixed shapes: the number of sequences and of runs, and the longest of them, are rounded up to one
of few sizes. Rows that are added read and write the slot that is no sequence's, and what they predict is
dropped. A graph is made when its sizes have come up a few times; until then, and where no graph can serve,
the pass is run as any other, with the same result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenbin.decoder.cached_attention import CachePlan, Meeting, runs_of
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import power
from tenbin.decoder.layout import longest_run
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import placed
from tenbin.decoder.reading import Piece, Reading
from tenbin.decoder.recording import recorded
from tenbin.decoder.shortage import is_shortage

WORTH_A_GRAPH = 8
"""Passes of the same sizes before a graph is made for them."""
LEAST_KEYS = 512
"""Longest sequences are rounded up from here on: attention's kernel looks at the true lengths itself."""
INTS = np.int32
Run = Callable[[Reading], Tensor]
"""A pass -> the next tokens (N,) int64."""


def rounded_rows(count: int) -> int:
    """Up to the next of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 ..."""
    whole = power(count, 1)
    three = whole // 4 * 3
    return three if three >= count else whole


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the tensors of a graph."""

    rows: int
    longest_keys: int
    levels: tuple[tuple[int, int], ...]
    """Of each level of what is shared: (runs, queries of the longest)."""
    names: tuple[str, ...] | None
    """The adapter of all rows, () for none; None: the rows have different ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one pass on the host, filled up to a graph's sizes."""

    sizes: Sizes
    tokens: np.ndarray  # (4, R) int64: ids, positions, slots, numbers of adapters
    spans: np.ndarray  # (X,) int32: what `reading` takes apart

    @classmethod
    def make(cls, pieces: Sequence[Piece], adapters: tuple[str, ...], *, unread: int) -> "Step":
        """Of pieces of one token each.

        Args:
            adapters: in use by the decoder.
            unread: a slot that is no sequence's.
        """
        count = len(pieces)
        rows = rounded_rows(count)
        numbers = {name: number for number, name in enumerate(adapters)}
        tokens = np.zeros((4, rows), dtype=np.int64)
        tokens[2], tokens[3] = unread, -1
        tokens[:, :count] = [
            [p.ids[0] for p in pieces],
            [p.position for p in pieces],
            [p.start + p.before for p in pieces],
            [-1 if p.adapter is None else numbers[p.adapter] for p in pieces],
        ]
        own = np.ones((2, rows), dtype=INTS)
        own[0] = unread
        own[:, :count] = [[p.start for p in pieces], [p.before + 1 for p in pieces]]
        parts = [np.arange(rows + 1, dtype=INTS), own[0], np.zeros(1, dtype=INTS), own[1]]
        longest, levels = int(own[1].max()), []
        for depth in range(max(len(p.shared) for p in pieces)):
            regions = [p.shared[depth] if depth < len(p.shared) else None for p in pieces]
            offsets, met = runs_of([1] * count, regions)
            if rows > count:  # one more run, the rows that were added, which meets nothing
                offsets, met = [*offsets, rows], [*met, None]
            runs = power(len(met), 1)
            queries = power(longest_run(offsets), 2)
            spans = np.zeros((3, runs + 1), dtype=INTS)
            spans[0] = rows
            spans[0, : len(offsets)] = offsets
            spans[1, : len(met)] = [0 if r is None else r[0] for r in met]
            spans[2, : len(met)] = [0 if r is None else r[1] - r[0] for r in met]
            parts += [spans[0], spans[1], spans[2][:runs]]
            levels.append((runs, queries))
            longest = max(longest, int(spans[2].max()))
        held = {p.adapter for p in pieces} - {None}
        alike = len({p.adapter for p in pieces}) == 1 and held == set(adapters)
        sizes = Sizes(rows, power(longest, LEAST_KEYS), tuple(levels), adapters if alike else None)
        return cls(sizes, tokens, np.concatenate(parts))

    def reading(self, tokens: Tensor, spans: Tensor) -> Reading:
        """The pass over these tensors, which hold `tokens` and `spans`."""
        rows, longest = self.sizes.rows, self.sizes.longest_keys
        lengths = [rows + 1, rows + 1, rows]
        for runs, _ in self.sizes.levels:
            lengths += [runs + 1, runs + 1, runs]
        parts = torch.split(spans, lengths)
        own = Meeting(parts[0], parts[1], parts[2], 1, longest)
        shared = []
        for level, (_, queries) in enumerate(self.sizes.levels):
            cumulative, first, num = parts[3 + 3 * level : 6 + 3 * level]
            shared.append(Meeting(cumulative, first, num, queries, longest))
        names = self.sizes.names
        if names is None:
            routing = Routing((), (), owners=tokens[3])
        else:
            routing = Routing(names, tuple((0, rows) for _ in names))
        every = torch.arange(rows, device=tokens.device)
        return Reading(tokens[0], tokens[1], tokens[2], every, CachePlan(own, tuple(shared)), routing)


@dataclass(slots=True)
class _Graph:
    """A pass of some sizes, to be repeated with other contents."""

    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    spans: Tensor
    following: Tensor  # (R,) int64


@dataclass(slots=True)
class StepGraphs:
    """The graphs of one reader."""

    decoder: Decoder
    unread: int
    off: bool = False
    """No graph is made any more: the memory was too little for one."""
    _seen: dict[Sizes, int] = field(default_factory=dict)
    _graphs: dict[Sizes, _Graph] = field(default_factory=dict)
    _pool: Any = None
    _adapters: tuple[Tensor | None, ...] = ()
    """What the decoder's adapters lay in when the graphs were made."""

    def read(self, pieces: Sequence[Piece], run: Run) -> Tensor | None:
        """The next tokens (N,) of a pass; None: no graph serves it.

        Args:
            run: computes a pass. It is not held on to: it has the cache, which would live as long as graphs
                that it is the owner of.
        """
        if not self._serves(pieces):
            return None
        step = Step.make(pieces, self.decoder.names, unread=self.unread)
        key = step.sizes
        self._forget_others()
        found = self._graphs.get(key)
        if found is None:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] < WORTH_A_GRAPH:
                return None
            found = self._capture(step, run)
            if found is None:
                return None
            self._graphs[key] = found
        found.tokens.copy_(_pinned(step.tokens), non_blocking=True)
        found.spans.copy_(_pinned(step.spans), non_blocking=True)
        found.graph.replay()
        return found.following[: len(pieces)].clone()

    def _serves(self, pieces: Sequence[Piece]) -> bool:
        """One token a sequence."""
        return not self.off and all(len(p.ids) == 1 and p.predicts for p in pieces)

    def _forget_others(self) -> None:
        """Graphs read the adapters where they lay: when these were laid down anew, graphs are made anew."""
        now = tuple(group.a for block in self.decoder.blocks for group in block.groups)
        if len(now) != len(self._adapters) or any(
            a is not b for a, b in zip(now, self._adapters, strict=True)
        ):
            self._graphs.clear()
            self._pool = None  # it went with its last graph
            self._seen.clear()
            self._adapters = now

    def _capture(self, step: Step, run: Run) -> _Graph | None:
        """Record the pass; None where there is no memory for it. What it computes now is dropped."""
        device = self.decoder.device
        tokens = torch.zeros(step.tokens.shape, dtype=torch.int64, device=device)
        spans = torch.zeros(step.spans.shape, dtype=torch.int32, device=device)
        tokens.copy_(placed(torch.from_numpy(step.tokens), device))
        spans.copy_(placed(torch.from_numpy(step.spans), device))
        try:
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                run(step.reading(tokens, spans))  # kernels are compiled and chosen here, not in the recording
            torch.cuda.current_stream(device).wait_stream(stream)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            # Anew: nothing of the first run is in it.
            graph, following = recorded(lambda: run(step.reading(tokens, spans)), self._pool, device)
        except RuntimeError as error:
            if not is_shortage(error):
                raise
            self.off = True
            return None
        return _Graph(graph, tokens, spans, following)


def _pinned(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).pin_memory()
