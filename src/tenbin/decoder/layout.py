"""Layout: which tokens of a packed row attend to which. No torch."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Tokens [start, end) that every segment in [end, branches_end) sees as if they stood before it."""

    start: int
    end: int
    branches_end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A packed row: segments laid end to end, each causal in itself, some behind a shared prefix.

    A token attends to the tokens before it in its own segment, and, where its segment is a branch of a
    shared prefix, to the whole prefix. So one passage with four questions is one prefix and four branches.
    """

    offsets: tuple[int, ...]
    """Where segments begin and end: one more entry than there are segments, from 0 to T. A shared prefix is
    a segment too."""
    prefixes: tuple[SharedPrefix, ...] = ()

    def __post_init__(self) -> None:
        bounds = set(self.offsets)
        assert self.offsets[0] == 0, "the first segment begins at 0"
        assert all(a < b for a, b in pairwise(self.offsets)), "segments are not empty"
        for p in self.prefixes:
            assert {p.start, p.end, p.branches_end} <= bounds, f"{p} does not begin and end with segments"
            assert p.start < p.end < p.branches_end, f"{p} is empty"

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.offsets[-1]

    def positions(self) -> list[int]:
        """Position of each token in its own sequence: from 0, a branch's after its prefix."""
        found = [i for start, end in pairwise(self.offsets) for i in range(end - start)]
        for p in self.prefixes:
            for start, end in pairwise(self.offsets):
                if p.end <= start < p.branches_end:
                    length = p.end - p.start
                    found[start:end] = range(length, length + end - start)
        return found

    def longest_shared(self) -> int:
        """Tokens of the longest prefix with the longest of its branches; 0 where nothing is shared."""
        return max(
            (
                p.end - p.start + max(b - a for a, b in pairwise(self.offsets) if p.end <= a < p.branches_end)
                for p in self.prefixes
            ),
            default=0,
        )


def joined(layouts: "list[Layout]") -> Layout:
    """Several rows as one: none sees another."""
    offsets, prefixes = [0], []
    for layout in layouts:
        by = offsets[-1]
        offsets += [o + by for o in layout.offsets[1:]]
        prefixes += [SharedPrefix(p.start + by, p.end + by, p.branches_end + by) for p in layout.prefixes]
    return Layout(tuple(offsets), tuple(prefixes))
