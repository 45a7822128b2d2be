"""Attention of new tokens against the cache: each to its own sequence, and to beginnings that it shares.

The new tokens' keys and values are in the cache already. Their queries meet the slots of their own sequence,
causal with the ends aligned (the queries are the last n of m keys), and the slots of every shared region on
their path as a whole. The parts are joined by their logarithms of sums, as in `attend`. So a prompt read at
once, a prompt read in pieces and a single new token are the same call.

Queries of neighbours that share a region meet it as one run: its keys are read once for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tenbin.decoder.attend import aten, without_flash
from tenbin.decoder.joining import merge_
from tenbin.decoder.pointwise import wide


@dataclass(frozen=True, slots=True)
class Meeting:
    """Runs of queries, end to end, each with the slots it meets."""

    cumulative_queries: Tensor  # (runs + 1,) int32
    first_keys: Tensor  # (runs + 1,) int32; the last is not read
    num_keys: Tensor  # (runs,) int32; 0: these queries meet nothing here
    longest_queries: int
    """Tokens of the longest run of queries, or more."""
    longest_keys: int
    queries: tuple[int, ...] = ()
    """The same on the host, where attention is computed run by run: offsets,"""
    keys: tuple[tuple[int, int], ...] = ()
    """and [start, end) of slots, empty where nothing is met."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Who meets what in one pass: made once, used in every layer."""

    own: Meeting
    shared: tuple[Meeting, ...]
    """By depth: what all begin with first."""
    longest_path: int = 0
    """Tokens of the longest sequence that shares something, up to its last query."""


def attend_cached(
    q: Tensor, keys: Tensor, values: Tensor, plan: CachePlan, *, scale: float, window: int | None
) -> Tensor:
    """Queries (T, H, Dh) against a block's keys and values (C + 1, Hkv, Dh) -> (T, H, Dh).

    Args:
        window: a token sees itself and the window - 1 positions before it; None = all before it. Where
            there is one, no path with a shared region may be longer.
    """
    assert window is None or plan.longest_path <= window, "a window would cut a shared beginning"
    limit = window if window is not None and plan.own.longest_keys > window else None
    out, log_sum = _meet(q, keys, values, plan.own, scale=scale, causal=True, window=limit)
    for meeting in plan.shared:
        other, other_sum = _meet(q, keys, values, meeting, scale=scale, causal=False, window=None)
        merge_(out, log_sum, other, other_sum)
    return out


def _meet(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    meeting: Meeting,
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """(T, H, Dh) output and (T, H) logarithms of sums, an infinity where nothing is met."""
    if (kernel := without_flash(q)) is not None:
        out = torch.zeros_like(q)
        log_sum = torch.full(q.shape[:2], -torch.inf, dtype=wide(q[:0]).dtype, device=q.device)
        for rows, (start, end) in zip(pairwise(meeting.queries), meeting.keys, strict=True):
            if start == end or rows[0] == rows[1]:
                continue
            runs = ((0, rows[1] - rows[0]), (0, end - start))
            part, part_sum = kernel.forward(
                q[slice(*rows)],
                keys[start:end],
                values[start:end],
                runs,
                scale=scale,
                causal=causal,
                window=window,
            )
            out[slice(*rows)], log_sum[slice(*rows)] = part, part_sum
        return out, log_sum
    limits = {} if window is None else {"window_size_left": window - 1, "window_size_right": 0}
    out, sums, *_ = aten._flash_attention_forward(
        q,
        keys,
        values,
        meeting.cumulative_queries,
        meeting.first_keys,
        meeting.longest_queries,
        meeting.longest_keys,
        0.0,
        causal,
        False,
        scale=scale,
        seqused_k=meeting.num_keys,
        **limits,
    )
    return out, sums.t()  # flash attention keeps (H, T)


def runs_of(
    lengths: Sequence[int], regions: Sequence[tuple[int, int] | None]
) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Neighbours with the same region as one run: (offsets, region of each run).

    Args:
        lengths: queries of each piece.
        regions: [start, end) of slots that each meets; None: nothing.
    """
    offsets: list[int] = [0]
    met: list[tuple[int, int] | None] = []
    for length, region in zip(lengths, regions, strict=True):
        if met and met[-1] == region:
            offsets[-1] += length
        else:
            offsets.append(offsets[-1] + length)
            met.append(region)
    return offsets, met
