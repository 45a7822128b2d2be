"""FixedRow: a packed row lengthened to one of few shapes, so that a CUDA graph made for one serves many."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenbin.decoder import tree_attention
from tenbin.decoder.attend import CUDNN_FROM, CUDNN_STEP
from tenbin.decoder.layout import Layout, longest_run
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch
from tenbin.decoder.some_rows import owners_of

MOST_TOKENS = 4096
"""Longer rows keep a GPU busy for longer than it takes to launch their kernels."""
LEAST_TOKENS, LEAST_TARGETS, LEAST_RUNS, LEAST_LONGEST = 64, 256, 64, 1024
"""Of a shape: so large that few graphs are made, so small that what is too much costs next to nothing."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that a CUDA graph cannot take from its inputs."""

    num_tokens: int
    num_targets: int
    num_runs: int
    """Of the row's segments."""
    longest: int
    """Tokens, or more, of the longest segment."""
    one: bool
    """The row is one segment."""
    num_shared: int
    """Runs of branches against prefixes; 0: nothing is shared."""
    longest_branches: int
    longest_prefix: int
    tree: bool
    """`tree_attention` takes the row."""
    num_owners: int
    """Adapters in use; 1: no token needs to name its own."""


@dataclass(frozen=True, slots=True)
class FixedRow:
    """A row of a shape, on the CPU. The tokens that were added stand at the end and predict nothing."""

    shape: Shape
    batch: PackedBatch
    scales: Tensor  # (N,) float32, 0 where the target is not the row's own
    owners: Tensor | None  # (T,) int64
    num_targets: int
    """The row's own; they come first."""

    @classmethod
    def make(cls, batch: PackedBatch, routing: Routing, scales: Tensor, names: tuple[str, ...]) -> "FixedRow":
        """Lengthen a row of at most MOST_TOKENS tokens whose adapters drop nothing.

        Args:
            scales: (N,) of the batch's targets.
            names: of the adapters in use.
        """
        assert not routing.draws, "dropout draws its masks on the CPU"
        owners = owners_of(routing, batch.num_tokens, names) if len(names) > 1 else None
        count = batch.num_targets
        longer = lengthened(batch, rounded(batch.num_tokens, LEAST_TOKENS))
        if owners is not None:
            owners = torch.cat([owners, owners.new_zeros(longer.num_tokens - batch.num_tokens)])
        more = rounded_targets(count, longer.num_tokens) - count
        if more:
            free = torch.ones(longer.num_tokens, dtype=torch.bool)
            free[batch.predicts] = False
            places = free.nonzero()[:more, 0]
            longer = replace(
                longer,
                predicts=torch.cat([batch.predicts, places]),
                labels=torch.cat([batch.labels, torch.zeros_like(places)]),
            )
        whole = torch.cat([scales.float(), torch.zeros(more)])
        return cls(_shape(longer, len(names)), longer, whole, owners, count)


def _shape(batch: PackedBatch, num_names: int) -> Shape:
    layout = batch.layout
    queries, keys = layout.across() if layout.branches else ((0,), (0,))
    num_runs = len(layout.offsets) - 1
    return Shape(
        num_tokens=batch.num_tokens,
        num_targets=batch.num_targets,
        num_runs=1 if num_runs == 1 else power(num_runs, LEAST_RUNS),
        longest=batch.num_tokens if num_runs == 1 else power(longest_run(layout.offsets), LEAST_LONGEST),
        one=num_runs == 1,
        num_shared=power(layout.num_prefixes, LEAST_RUNS) if layout.branches else 0,
        longest_branches=power(longest_run(queries), LEAST_LONGEST) if layout.branches else 0,
        longest_prefix=power(longest_run(keys), LEAST_LONGEST) if layout.branches else 0,
        tree=tree_attention.takes(layout),
        num_owners=num_names,
    )


def rounded_targets(count: int, num_tokens: int) -> int:
    """A quarter of the tokens where that is enough, else all; or the next power of two where that is fewer.

    So of a few hundred tokens, too, only some go on through the last block (`some_rows.Selected`). What
    halves more often spares little more and makes more shapes.
    """
    share = num_tokens // 4 if 4 * count <= num_tokens else num_tokens
    return min(share, power(count, LEAST_TARGETS))


def power(count: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (count - 1).bit_length())


def rounded(length: int, least: int) -> int:
    """The next of 8 sizes between one power of two and the next."""
    step = max(least, (1 << (length - 1).bit_length()) // 16)
    return -(-length // step) * step


def lengthened(batch: PackedBatch, length: int) -> PackedBatch:
    """A row with so many tokens: those that are added stand at the end, where nothing attends to them.

    One long text grows, because cuDNN takes rows of one segment alone; others get a segment more.
    """
    extra = length - batch.num_tokens
    if not extra:
        return batch
    offsets = batch.layout.offsets
    if len(offsets) == 2 and length >= CUDNN_FROM:
        layout = Layout((0, length))
        positions = torch.arange(batch.num_tokens, length).clamp(max=int(batch.position_ids.max()))
    else:
        layout = Layout((*offsets, length), batch.layout.branches)
        positions = torch.arange(extra).clamp(max=int(batch.position_ids.max()))
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, batch.input_ids.new_zeros(extra)]),
        position_ids=torch.cat([batch.position_ids, positions]),
        layout=layout,
    )


def in_cudnn_steps(batch: PackedBatch) -> PackedBatch:
    """A row of one long text, lengthened to one of few lengths: cuDNN plans anew for every one."""
    one_long = len(batch.layout.offsets) == 2 and batch.num_tokens >= CUDNN_FROM
    return lengthened(batch, -(-batch.num_tokens // CUDNN_STEP) * CUDNN_STEP) if one_long else batch
