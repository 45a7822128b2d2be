"""Layout: which tokens of a packed row attend to which. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, slots=True)
class Layout:
    """A packed row: segments laid end to end, each causal in itself, some behind a shared prefix.

    Shared prefixes stand first, then their branches, prefix by prefix, then the segments that share nothing.
    A token attends to the tokens before it in its own segment, and, where its segment is a branch, to the
    whole of its prefix. So one passage with four questions is one prefix and four branches. In this order all
    prefixes are one run of tokens and all branches another, and attention between them gathers nothing.
    """

    offsets: tuple[int, ...]
    """Where segments begin and end: one more entry than there are segments, from 0 to T."""
    branches: tuple[int, ...] = ()
    """Number of branches of each shared prefix."""

    def __post_init__(self) -> None:
        assert self.offsets[0] == 0, "the first segment begins at 0"
        assert all(a < b for a, b in pairwise(self.offsets)), "segments are not empty"
        assert all(n > 0 for n in self.branches), "every prefix has a branch"
        assert self.num_prefixes + self.num_branches < len(self.offsets), "some branches are missing"

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.offsets[-1]

    @property
    def num_prefixes(self) -> int:
        """Segments that others share."""
        return len(self.branches)

    @property
    def num_branches(self) -> int:
        """Segments behind a shared prefix."""
        return sum(self.branches)

    def across(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Offsets of the runs of branches, a run a prefix, and of the prefixes that they see."""
        n = self.num_prefixes
        return tuple(self.offsets[i] for i in (n, *(p.stop for p in self.places()))), self.offsets[: n + 1]

    def positions(self) -> list[int]:
        """Position of each token in its own sequence: from 0, a branch's after its prefix."""
        lengths = [b - a for a, b in pairwise(self.offsets)]
        before = [0] * len(lengths)
        for prefix, places in enumerate(self.places()):
            for place in places:
                before[place] = lengths[prefix]
        return [i for n, length in zip(before, lengths, strict=True) for i in range(n, n + length)]

    def places(self) -> list[range]:
        """Numbers of each prefix's branches among the segments."""
        ends = list(accumulate(self.branches, initial=self.num_prefixes))
        return [range(a, b) for a, b in pairwise(ends)]

    def longest_shared(self) -> int:
        """Tokens of the longest prefix with the longest of its branches; 0 where nothing is shared."""
        lengths = [b - a for a, b in pairwise(self.offsets)]
        return max(
            (
                lengths[prefix] + max(lengths[i] for i in places)
                for prefix, places in enumerate(self.places())
            ),
            default=0,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens [start, end) of a row, which begin at `place` in the joined row."""

    row: int
    start: int
    end: int
    place: int

    @property
    def span(self) -> tuple[int, int]:
        """The same tokens in the joined row."""
        return self.place, self.place + self.end - self.start


def joined(layouts: Sequence[Layout]) -> tuple[Layout, tuple[Run, ...]]:
    """Several rows as one, none seeing another: all prefixes, then all branches, then the rest.

    Returns:
        the joined row, and where its tokens come from, in order; one row gives at most three runs.
    """
    runs = []
    lengths: list[int] = []
    for part in range(3):
        for number, one in enumerate(layouts):
            bounds = (0, one.num_prefixes, one.num_prefixes + one.num_branches, len(one.offsets) - 1)
            offsets = one.offsets[bounds[part] : bounds[part + 1] + 1]
            if len(offsets) > 1:
                runs.append(Run(number, offsets[0], offsets[-1], sum(lengths)))
                lengths += [b - a for a, b in pairwise(offsets)]
    branches = tuple(n for one in layouts for n in one.branches)
    return Layout(tuple(accumulate(lengths, initial=0)), branches), tuple(runs)


def longest_run(offsets: Sequence[int]) -> int:
    """Tokens of the longest of the runs between these offsets."""
    return max(b - a for a, b in pairwise(offsets))
