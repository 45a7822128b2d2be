"""Random layouts of packed rows, and what they mean, told in the simplest way."""

from itertools import pairwise

import torch
from hypothesis import strategies as st

from tenbin.decoder.layout import Layout, SharedPrefix


def _layout(parts):
    """Parts: (prefix tokens or 0, [tokens of each segment])."""
    offsets, prefixes = [0], []
    for prefix, segments in parts:
        start = offsets[-1]
        if prefix:
            offsets.append(start + prefix)
        for size in segments:
            offsets.append(offsets[-1] + size)
        if prefix:
            prefixes.append(SharedPrefix(start, start + prefix, offsets[-1]))
    return Layout(tuple(offsets), tuple(prefixes))


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
LAYOUTS = st.lists(st.tuples(st.integers(0, 12), SIZES), min_size=1, max_size=4).map(_layout)


def sequences_of(layout):
    """The tokens of every sequence in order: a segment, or a prefix with one of its branches.

    A prefix by itself is a sequence too: its tokens see what stands before them.
    """
    found = []
    for start, end in pairwise(layout.offsets):
        before = [p for p in layout.prefixes if p.end <= start < p.branches_end]
        prefix = list(range(before[0].start, before[0].end)) if before else []
        found.append(prefix + list(range(start, end)))
    return found


def visible(layout, window=None):
    """(T, T) bool: which token sees which."""
    mask = torch.zeros(layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for tokens in sequences_of(layout):
        for place, t in enumerate(tokens):
            first = 0 if window is None else max(0, place - window + 1)
            mask[t, tokens[first : place + 1]] = True
    return mask
