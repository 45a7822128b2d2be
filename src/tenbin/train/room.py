"""Room: how many tokens a micro-batch may have and what its blocks keep, within what memory there is."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenbin.decoder.block import Keep
from tenbin.memory import KeepLevels


@dataclass(slots=True)
class Room:
    """What the training may spend. It only shrinks, when the device turns out to have less."""

    most_tokens: int
    """Of one micro-batch; a longer example has one of its own."""
    levels: KeepLevels | None = None
    """None: everything is kept."""
    longest: int = 0
    """Tokens of the longest example: below it, smaller micro-batches gain nothing."""
    share_prefixes: bool = True
    """Lay what several examples of a step begin with down once."""
    replays: bool = True
    """Short rows may be CUDA graphs, which hold on to memory."""
    most_shared: int | None = None
    """Longest prefix with branch, in tokens, where attention has a window."""
    largest: int = 0
    """Tokens of the largest micro-batch that was asked about so far."""

    def keep(self, num_tokens: int) -> Sequence[Keep] | None:
        """What each block keeps of a micro-batch of so many tokens; None: everything."""
        self.largest = max(self.largest, num_tokens)
        if self.levels is None:
            return None
        return [Keep(level) for level in self.levels.choose(num_tokens)]

    def turns(self) -> bool:
        """Whether frozen weights of 8 bits may be kept in both orders."""
        return self.levels is not None and self.levels.turns(max(self.most_tokens, self.longest))

    def shrink(self, num_tokens: int) -> str | None:
        """Spend less after a micro-batch of `num_tokens` did not fit. What was done; None: nothing is left.

        First smaller micro-batches, down to the longest example, then more recomputation: neither changes
        the result.
        """
        most = max(self.longest, min(self.most_tokens, num_tokens) // 2)
        if most < min(self.most_tokens, num_tokens):
            self.most_tokens = most
            return f"micro-batches of at most {most} tokens"
        if self.levels is None:
            return None
        less = self.levels.less(num_tokens)
        if less is None:
            return None
        self.levels = less
        return f"less kept for the backward pass: {less.describe(num_tokens)}"
