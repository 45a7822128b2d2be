"""Prompt tree: what prompts begin with alike, so that it is read once, and the order to read them. No torch.

In the order of their tokens, prompts with the most in common are neighbours. All that share at least
LEAST_SHARED tokens beyond what is shared already get a node of their own for them, at most MOST_LEVELS deep:
instructions, a passage, and one more. Every prompt keeps at least its last token for itself, whose state
predicts the first token of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST_SHARED = 32
"""Tokens: a shorter common beginning saves less than one more part of attention costs."""
MOST_LEVELS = 3
"""Of shared nodes above a prompt: each is one more part of attention for every token below it."""


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens that follow those of the parent: a shared beginning, or the rest of one prompt."""

    ids: tuple[int, ...]
    parent: int | None
    """Number of the parent in the tree; None: a sequence begins here."""
    prompt: int | None = None
    """Which prompt ends here; None: several go on from here."""


def plant(prompts: Sequence[Sequence[int]], may_share: Sequence[bool]) -> list[Node]:
    """The tree of some prompts, depth first: parents before children, children before others' children.

    Args:
        prompts: token ids, at least one each.
        may_share: whether a prompt may be behind a shared beginning (no window would cut it).
    """
    order = sorted((i for i in range(len(prompts)) if may_share[i]), key=lambda i: (prompts[i], i))
    common = [0, *(_common(prompts[a], prompts[b]) for a, b in pairwise(order))]
    nodes: list[Node] = []

    def grow(first: int, end: int, base: int, parent: int | None, levels: int) -> None:
        """Nodes of the prompts order[first:end], which share their first `base` tokens by `parent`."""
        cuts = [i for i in range(first + 1, end) if common[i] < base + LEAST_SHARED]
        for a, b in pairwise([first, *cuts, end]):
            if b - a == 1 or levels == 0:
                nodes.extend(Node(tuple(prompts[i][base:]), parent, i) for i in order[a:b])
                continue
            shared = min(common[a + 1 : b])
            nodes.append(Node(tuple(prompts[order[a]][base:shared]), parent))
            grow(a, b, shared, len(nodes) - 1, levels - 1)

    if order:
        grow(0, len(order), 0, None, MOST_LEVELS)
    nodes += [Node(tuple(p), None, i) for i, p in enumerate(prompts) if not may_share[i]]
    return nodes


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that both begin with, less than the whole of either."""
    most = min(len(a), len(b)) - 1
    return next((i for i in range(most) if a[i] != b[i]), most)
