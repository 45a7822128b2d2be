"""Packing: examples laid end to end in one row without padding; what several begin with is laid down once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tenbin.decoder.layout import Layout
from tenbin.decoder.pack import PackedBatch
from tenbin.models.encode import Encoded

LEAST_SHARED = 8
"""Tokens: a shorter common beginning is not worth a prefix of its own."""
EVEN_ROWS = (1.0, 1.02, 1.05, 1.1, 1.2)
"""Tries at rows of equal length: their mean times so much."""
MOST_BRANCHES = 256
"""Of one prefix: keeps the search for the best bundles short."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Examples whose prompts begin alike: one passage and its questions."""

    members: tuple[int, ...]
    shared: int
    """Tokens that all of them begin with, laid down once; 0 of an example by itself."""


def bundles(examples: Sequence[Encoded], *, most_shared: int | None = None) -> list[Bundle]:
    """Group examples by the tokens that their prompts begin with, so that the fewest are laid down.

    In the order of their ids, examples with the most in common are neighbours; of all ways to cut that order
    into runs, the one that saves the most tokens is found (by dynamic programming over where runs end). Every
    branch keeps at least one token of its prompt, which predicts its first target.

    Args:
        most_shared: longest prefix with branch, in tokens; None = any. (A sliding window of attention.)
    """
    order = sorted(range(len(examples)), key=lambda i: (examples[i].prompt_ids, i))
    common = [_common(examples[a], examples[b]) for a, b in pairwise(order)]
    best = [0] * (len(order) + 1)  # tokens saved among the first j
    runs = [(0, 0)] * (len(order) + 1)  # (where the last run begins, what it shares)
    for end in range(1, len(order) + 1):
        best[end], runs[end] = best[end - 1], (end - 1, 0)
        shared = longest = len(examples[order[end - 1]])
        for start in range(end - 2, max(-1, end - 1 - MOST_BRANCHES), -1):
            shared = min(shared, common[start])
            longest = max(longest, len(examples[order[start]]))
            if shared < LEAST_SHARED or (most_shared is not None and longest > most_shared):
                break
            saved = best[start] + (end - start - 1) * shared
            if saved > best[end]:
                best[end], runs[end] = saved, (start, shared)
    found = []
    end = len(order)
    while end:
        start, shared = runs[end]
        found.append(Bundle(tuple(order[start:end]), shared))
        end = start
    return found[::-1]


def alone(examples: Sequence[Encoded]) -> list[Bundle]:
    """Every example by itself."""
    return [Bundle((i,), 0) for i in range(len(examples))]


def micro_batches(
    examples: Sequence[Encoded], together: Sequence[Bundle], most_tokens: int
) -> list[list[Bundle]]:
    """Group the bundles of one step, first fit in order of falling length, into rows of `most_tokens`.

    A bundle that is longer is split, its prefix repeated; an example that is longer has a row of its own.

    Returns:
        rows of bundles; every example once.
    """
    pieces = [piece for bundle in together for piece in _split(examples, bundle, most_tokens)]
    sizes = [num_tokens(examples, piece) for piece in pieces]
    order = sorted(range(len(pieces)), key=lambda i: (-sizes[i], pieces[i].members))
    rows = _first_fit(sizes, order, most_tokens)
    even = -(-sum(sizes) // max(1, len(rows)))
    for slack in EVEN_ROWS:  # as few rows, but none that is nearly empty
        most = min(most_tokens, int(even * slack))
        evener = _first_fit(sizes, order, most)
        if len(evener) == len(rows):
            rows = evener
            break
    return [[pieces[i] for i in row] for row in rows]


def _first_fit(sizes: Sequence[int], order: Sequence[int], most: int) -> list[list[int]]:
    """Rows of indices, each put where it first fits."""
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order:
        place = next((r for r, room in enumerate(free) if room >= sizes[i]), None)
        if place is None:
            rows.append([i])
            free.append(most - sizes[i])
        else:
            rows[place].append(i)
            free[place] -= sizes[i]
    return rows


def num_tokens(examples: Sequence[Encoded], bundle: Bundle) -> int:
    """Tokens that a bundle lays down."""
    return bundle.shared + sum(len(examples[i]) - bundle.shared for i in bundle.members)


def pack(
    examples: Sequence[Encoded], row: Sequence[Bundle], loss_on: Literal["response", "all"]
) -> PackedBatch:
    """Lay the bundles of a row end to end, those that share a prefix first (see `Layout`).

    With `loss_on="all"` every token but each example's first is a target. Then nothing may be shared: a
    prefix's own tokens are targets of every example that begins with it.
    """
    assert loss_on == "response" or not any(b.shared for b in row), "a shared prefix has no targets"
    shared = [bundle for bundle in row if bundle.shared]
    lone = [bundle for bundle in row if not bundle.shared]
    ids: list[int] = []
    predicts: list[int] = []
    labels: list[int] = []
    offsets = [0]
    for bundle in shared:
        ids += examples[bundle.members[0]].prompt_ids[: bundle.shared]
        offsets.append(len(ids))
    for bundle in (*shared, *lone):
        for i in bundle.members:
            example = examples[i]
            first_target = len(example.prompt_ids) if loss_on == "response" else 1
            base = len(ids) - bundle.shared
            whole = (*example.prompt_ids, *example.target_ids)
            ids += whole[bundle.shared :]
            predicts += range(base + first_target - 1, base + len(whole) - 1)
            labels += whole[first_target:]
            offsets.append(len(ids))
    layout = Layout(tuple(offsets), tuple(len(bundle.members) for bundle in shared))
    drawn = () if shared else tuple(i for bundle in row for i in bundle.members)
    return PackedBatch.of(ids, layout, predicts, labels, drawn)


def _common(a: Encoded, b: Encoded) -> int:
    """Tokens that both prompts begin with, one token of each prompt left over."""
    most = min(len(a.prompt_ids), len(b.prompt_ids)) - 1
    return next((i for i in range(most) if a.prompt_ids[i] != b.prompt_ids[i]), max(0, most))


def _split(examples: Sequence[Encoded], bundle: Bundle, most_tokens: int) -> list[Bundle]:
    """The bundle in pieces of at most `most_tokens`, as far as its examples allow."""
    pieces: list[Bundle] = []
    members: list[int] = []
    for i in bundle.members:
        grown = Bundle((*members, i), bundle.shared)
        if members and num_tokens(examples, grown) > most_tokens:
            pieces.append(_piece(members, bundle.shared))
            members = []
        members.append(i)
    return [*pieces, _piece(members, bundle.shared)]


def _piece(members: list[int], shared: int) -> Bundle:
    return Bundle(tuple(members), shared if len(members) > 1 else 0)
