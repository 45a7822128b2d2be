"""Attention over a packed row of short segments and shared prefixes in one pass.

Segment by segment, a kernel fills a tile of 64 or 128 rows with some thirty tokens, and does so twice for
branches: with themselves, and with their prefix, joined afterwards. Here a tile is any 64 rows of the pack,
whatever segments they are of, and meets all keys that they see (`tree_attention_kernels`).
"""

import torch
from torch import Tensor

from tenbin.decoder.layout import Layout, longest_run
from tenbin.decoder.multiprocessors import multiprocessors

LONGEST = 512
"""Tokens of a segment up to which this is faster than flash attention by segments."""


def bounds(layout: Layout) -> Tensor:
    """Of every token: where its segment, its prefix and the branches that see it begin and end.

    Returns:
        (6, T) int32, in pairs of rows; what there is none of begins and ends at 0.
    """
    offsets = torch.tensor(layout.offsets)
    found = torch.zeros(6, layout.num_tokens, dtype=torch.int32)
    found[:2] = _spread(offsets)
    if layout.branches:
        queries, keys = (torch.tensor(one) for one in layout.across())
        branches, prefixes = slice(int(queries[0]), int(queries[-1])), slice(int(keys[0]), int(keys[-1]))
        found[2:4, branches] = _spread(keys, queries.diff())
        found[4:, prefixes] = _spread(queries, keys.diff())
    return found


def _spread(offsets: Tensor, counts: Tensor | None = None) -> Tensor:
    """(2, sum of counts): where each run begins and ends, so many times; None: once a token."""
    runs = torch.stack([offsets[:-1], offsets[1:]])
    return runs.repeat_interleave(offsets.diff() if counts is None else counts, dim=1).int()


def takes(layout: Layout) -> bool:
    """Whether a row of this layout is such a row: several segments, none of them long."""
    return len(layout.offsets) > 2 and longest_run(layout.offsets) <= LONGEST


def serves(q: Tensor) -> bool:
    """Whether there are kernels for queries (T, H, Dh) of this type, width and device: from Hopper on."""
    half = q.dtype in (torch.bfloat16, torch.float16)
    return q.is_cuda and half and q.shape[-1] in (16, 32, 64, 128) and multiprocessors(q.device).large
