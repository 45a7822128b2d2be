"""Reading: the new tokens of one pass, where they go in the cache, and whom they meet there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from tenbin.decoder.cached_attention import CachePlan, Meeting, runs_of
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import placed

Region = tuple[int, int]
"""[start, end) of slots."""


@dataclass(frozen=True, slots=True)
class Piece:
    """New tokens of one sequence, or of a beginning that several share."""

    ids: Sequence[int]
    start: int
    """First slot of what the sequence has for itself."""
    before: int
    """Tokens that are there already, behind `start`."""
    shared: tuple[Region, ...] = ()
    """What it shares with others, from the beginning on, all of it read before or in the same pass."""
    adapter: str | None = None
    predicts: bool = True
    """The token after the last one is wanted."""

    @property
    def own(self) -> Region:
        """Slots of its own sequence, the new tokens included."""
        return self.start, self.start + self.before + len(self.ids)

    @property
    def position(self) -> int:
        """Of the first new token in its sequence."""
        return self.before + sum(end - start for start, end in self.shared)


@dataclass(frozen=True, slots=True)
class Reading:
    """One pass. T new tokens in one row, N of them predict."""

    input_ids: Tensor  # (T,) int64
    position_ids: Tensor  # (T,) int64
    slots: Tensor  # (T,) int64
    predicts: Tensor  # (N,) int64
    plan: CachePlan
    routing: Routing

    @classmethod
    def make(cls, pieces: Sequence[Piece], device: torch.device, *, unread: int) -> "Reading":
        """Lay the pieces of a pass end to end.

        Args:
            pieces: those of one adapter next to each other; of those that share a region, too.
            unread: a slot that is no sequence's.
        """
        lengths = [len(p.ids) for p in pieces]
        ends = list(accumulate(lengths))
        within = np.arange(ends[-1]) - np.repeat(np.array([0, *ends[:-1]]), lengths)
        ids = np.concatenate([np.asarray(p.ids, dtype=np.int64) for p in pieces])
        positions = within + np.repeat(np.array([p.position for p in pieces]), lengths)
        slots = within + np.repeat(np.array([p.start + p.before for p in pieces]), lengths)
        predicts = np.array(
            [end - 1 for p, end in zip(pieces, ends, strict=True) if p.predicts], dtype=np.int64
        )
        whole = placed(torch.from_numpy(np.concatenate([ids, positions, slots, predicts])), device)
        total = ends[-1]
        ids_there, positions_there, slots_there, predicts_there = torch.split(
            whole, [total, total, total, len(predicts)]
        )
        return cls(
            ids_there,
            positions_there,
            slots_there,
            predicts_there,
            _plan(pieces, lengths, device, unread),
            _routing(pieces, ends),
        )


def _plan(pieces: Sequence[Piece], lengths: Sequence[int], device: torch.device, unread: int) -> CachePlan:
    own = _meeting([0, *accumulate(lengths)], [p.own for p in pieces], device, unread)
    shared = []
    for depth in range(max(len(p.shared) for p in pieces)):
        regions = [p.shared[depth] if depth < len(p.shared) else None for p in pieces]
        shared.append(_meeting(*runs_of(lengths, regions), device, unread))
    longest = max((p.position + len(p.ids) for p in pieces if p.shared), default=0)
    return CachePlan(own, tuple(shared), longest)


def _meeting(
    offsets: Sequence[int], regions: Sequence[Region | None], device: torch.device, unread: int
) -> Meeting:
    met = [region or (unread, unread) for region in regions]
    starts = [start for start, _ in met]
    counts = [end - start for start, end in met]
    longest = max(b - a for a, b in pairwise(offsets))
    row = torch.tensor([*offsets, *starts, 0, *counts], dtype=torch.int32)
    queries, first, num = torch.split(placed(row, device), [len(offsets), len(offsets), len(counts)])
    return Meeting(queries, first, num, longest, max(1, *counts), tuple(offsets), tuple(met))


def _routing(pieces: Sequence[Piece], ends: Sequence[int]) -> Routing:
    """The tokens of each adapter; those of none belong to nobody."""
    spans: dict[str, tuple[int, int]] = {}
    last = None
    for piece, end in zip(pieces, ends, strict=True):
        name = piece.adapter
        if name is not None:
            assert name == last or name not in spans, "pieces of one adapter stand together"
            start = spans[name][0] if name in spans else end - len(piece.ids)
            spans[name] = (start, end)
        last = name
    return Routing(tuple(spans), tuple(spans.values()))
