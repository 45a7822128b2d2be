"""Random layouts of packed rows, and what they mean, told in the simplest way."""

from itertools import accumulate, pairwise

import torch
from hypothesis import strategies as st

from tenbin.decoder.layout import Layout


def layout_of(parts):
    """Parts: (prefix tokens or 0, [tokens of each segment])."""
    shared = [(prefix, sizes) for prefix, sizes in parts if prefix]
    lone = [size for prefix, sizes in parts if not prefix for size in sizes]
    lengths = [prefix for prefix, _ in shared] + [size for _, sizes in shared for size in sizes] + lone
    return Layout((0, *accumulate(lengths)), tuple(len(sizes) for _, sizes in shared))


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
LAYOUTS = st.lists(st.tuples(st.integers(0, 12), SIZES), min_size=1, max_size=4).map(layout_of)


def sequences_of(layout):
    """The tokens of every sequence in order: a segment, or a prefix with one of its branches.

    A prefix by itself is a sequence too: its tokens see what stands before them.
    """
    segments = [list(range(start, end)) for start, end in pairwise(layout.offsets)]
    owners = [n for n, count in enumerate(layout.branches) for _ in range(count)]
    first = len(layout.branches)
    for place, owner in enumerate(owners, first):
        segments[place] = segments[owner] + segments[place]
    return segments


def visible(layout, window=None):
    """(T, T) bool: which token sees which."""
    mask = torch.zeros(layout.num_tokens, layout.num_tokens, dtype=torch.bool)
    for tokens in sequences_of(layout):
        for place, t in enumerate(tokens):
            first = 0 if window is None else max(0, place - window + 1)
            mask[t, tokens[first : place + 1]] = True
    return mask


def sides(flat, num_heads, num_kv_heads):
    """Gradients of q, k and v (T, H, Dh) that lie side by side in (T, (H + 2 Hkv) Dh)."""
    width = flat.shape[1] // (num_heads + 2 * num_kv_heads)
    parts = flat.split([n * width for n in (num_heads, num_kv_heads, num_kv_heads)], dim=1)
    return [part.unflatten(1, (-1, width)) for part in parts]
