"""Room: how many tokens a micro-batch may have and what its blocks keep, within what memory there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenbin.decoder.block import Keep
from tenbin.memory import ALL, AWAY, INPUT, KeepLevels


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
    sparing: bool = False
    """Of rows, only those may be that leave room for the largest pass beside what their graphs hold."""
    most_shared: int | None = None
    """Longest prefix with branch, in tokens, where attention has a window."""
    largest: int = 0
    """Tokens of the largest micro-batch that was asked about so far."""

    @property
    def limit(self) -> int:
        """Tokens that no row has more of."""
        return max(self.most_tokens, self.longest)

    @property
    def _row(self) -> int:
        """Tokens of the largest row there was; the limit where there was none."""
        return min(self.limit, self.largest or self.limit)

    def keep(self, num_tokens: int) -> Sequence[Keep] | None:
        """What each block keeps of a micro-batch of so many tokens; None: everything."""
        self.largest = max(self.largest, num_tokens)
        if self.levels is None:
            return None
        return [Keep(level) for level in self.levels.choose(num_tokens)]

    def turns(self) -> bool:
        """Whether frozen weights of 8 bits may be kept in both orders."""
        return self.levels is not None and self.levels.turns(self.limit)

    def records(self, num_tokens: int) -> bool:
        """Whether a row of so many tokens may be a CUDA graph."""
        if not self.replays or not self.sparing or self.levels is None:
            return self.replays
        rows = num_tokens, max(num_tokens, self._row)
        both = sum(self.levels.kept_bytes(n) + self.levels.beside_bytes(n) for n in rows)
        turned = self.levels.turned_bytes if self.levels.turns(num_tokens) else 0  # counted twice
        return both - turned <= self.levels.room_bytes

    def spare_graphs(self) -> str:
        """Fewer graphs after a pass did not fit beside them. What was done."""
        if self.levels is not None and not self.sparing:
            self.sparing = True
            return "CUDA graphs only of rows that leave room for any other beside them"
        self.replays = False
        return "no CUDA graphs, which hold on to memory"

    def shrink(self) -> str | None:
        """Spend less after a micro-batch did not fit. What was done; None: nothing is left.

        First what only saves time is given up: weights in both orders, then products that wait in the
        computer's memory, which may be what is short. Where blocks compute something again
        already, they keep what the room holds whatever the row's length, so the room is made smaller; else
        micro-batches are, down to the longest example. Last, inputs go to the computer's memory. None of it
        changes the result.
        """
        if self.levels is not None and self.levels.turned_bytes:
            turned = self.turns()
            self.levels = replace(self.levels, turned_bytes=0)  # nor when there is room for it again
            if turned:
                return "weights of 8 bits in one order only"
        row = self._row
        if self.levels is not None and self.levels.away is not None:
            waits = AWAY in self.levels.choose(row)
            fixed = None if waits else self.levels.fixed
            self.levels = replace(self.levels, away=None, fixed=fixed)
            if waits:
                return f"no products in the computer's memory: {self.levels.describe(row)}"
        kept = self.levels.choose(row) if self.levels is not None else [ALL]
        if min(kept) == ALL or max(kept) <= INPUT:
            most = max(self.longest, row // 2)
            if most < row:
                self.most_tokens = most
                return f"micro-batches of at most {most} tokens"
        if self.levels is None:
            return None
        less = self.levels.less(row)
        if less is None:
            return None
        self.levels = less
        return f"less kept for the backward pass: {less.describe(row)}"
