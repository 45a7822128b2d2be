"""KeepLevels: what the blocks of a micro-batch keep for their backward pass, as memory allows. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tenbin.memory_away import Away, places
from tenbin.memory_reading import LOGIT_CHUNK_BYTES

MIB = 2**20
MLP_ROWS = 16384
"""As `decoder.decoder.MLP_ROWS`; a test holds the two together."""
HOST, INPUT, ATTENTION, PROJECTIONS, ALL, AWAY = range(6)
"""Levels of `decoder.block.Keep`; a test holds the two together."""
LEVEL_NAMES = (
    "in the computer's memory",
    "input",
    "input and attention",
    "all but the MLP's products",
    "everything",
    "everything (the wide products in the computer's memory)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the losses need, by how many tokens predict."""

    vocab_size: int
    hidden_size: int
    dtype_bytes: int

    def working_bytes(self, num_tokens: int) -> int:
        """A chunk of logits and its gradients, and the states that predict with theirs."""
        chunk = min(LOGIT_CHUNK_BYTES // 4, self.vocab_size * num_tokens)
        return (2 * chunk + 4 * self.hidden_size * num_tokens) * self.dtype_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLevels:
    """What the blocks of a micro-batch may keep: as much as there is room for, the last blocks first.

    The backward pass begins with the last blocks, so what they keep is free again when the first ones,
    which recompute more, need room for it.
    """

    num_layers: int
    token_bytes: tuple[int, ...]
    """Of one block and token, by level."""
    room_bytes: int
    """For what is kept and what one block needs while it works."""
    transient_bytes: int
    """A token, of one block at work that keeps nothing."""
    wide_bytes: int
    """A row, of the MLP's products of such a block; it makes them in runs of at most MLP_ROWS rows."""
    spared_bytes: tuple[int, ...] = (0,) * 6
    """A token, by level: of `transient_bytes`, what a block need not make again."""
    spared_wide_bytes: int = 0
    """Of `wide_bytes`, the same of a block that keeps everything; its rows are all in one run."""
    weight_bytes: int = 0
    """Of the largest weight that is made anew for one product."""
    head: Head | None = None
    """What the losses need while no block works; None: less than a block."""
    turned_bytes: int = 0
    """Of all frozen weights in their other order, which spare the backward pass turning them; 0: not kept."""
    away: Away | None = None
    """What may wait in the computer's memory; None: nothing but inputs, and those as the last resort."""
    fixed: tuple[int, ...] | None = None
    """Levels that were asked for, whatever the room; None: chosen."""

    def choose(self, num_tokens: int) -> list[int]:
        """Level of each block for a micro-batch of so many tokens, first block first."""
        return list(self.fixed if self.fixed is not None else _chosen(self, num_tokens))

    def filled(self, num_tokens: int, away: frozenset[int] = frozenset()) -> list[int]:
        """Levels where these blocks' wide products wait in the computer's memory: the others keep as much as
        there is room for."""
        kept = [AWAY if i in away else HOST for i in range(self.num_layers)]
        held = sum(self.token_bytes[level] for level in kept) * num_tokens
        for level in (INPUT, ATTENTION, PROJECTIONS, ALL):
            for i in reversed(range(self.num_layers)):
                if kept[i] != level - 1:
                    continue
                kept[i] = level
                more = (self.token_bytes[level] - self.token_bytes[level - 1]) * num_tokens
                most = ALL if away else level
                if held + more + self._beside(num_tokens, min(kept), most) <= self.room_bytes:
                    held += more
                else:
                    kept[i] = level - 1
        return kept

    def fits(self, num_tokens: int, levels: Sequence[int]) -> bool:
        """Whether there is room for blocks that keep these levels."""
        beside = self._beside(num_tokens, min(levels), max(levels))
        return self._most_kept(num_tokens, levels) + beside <= self.room_bytes

    def repeated(self, num_tokens: int, levels: Sequence[int]) -> int:
        """Operations that the backward pass makes again."""
        assert self.away is not None
        return sum(self.away.repeated_operations(min(level, ALL), num_tokens) for level in levels)

    def _most_kept(self, num_tokens: int, levels: Sequence[int]) -> int:
        """The most that is kept at once: by the blocks up to one, and what is on its way of that one and of
        one of the two before it (see `decoder.host.HELD`). Where inputs alone leave, they are not counted."""
        kept = most = 0
        moving = [0, 0]
        counted = self._leaving() if AWAY in levels else {}
        for level in levels:
            kept += self.token_bytes[level] * num_tokens
            moves = counted.get(level, 0) * num_tokens
            most = max(most, kept + moves + max(moving))
            moving = [moving[1], moves]
        return most

    def turns(self, num_tokens: int) -> bool:
        """Whether there is room for the weights in both orders beside all that the blocks can keep."""
        if not self.turned_bytes or self.fixed is not None:
            return False
        everything = self.num_layers * self.token_bytes[ALL] * num_tokens
        return everything + self._beside(num_tokens, ALL, ALL) + self.turned_bytes <= self.room_bytes

    def kept_bytes(self, num_tokens: int) -> int:
        """Of all blocks, at the levels that are chosen, and of the weights that are kept in both orders."""
        kept = self._most_kept(num_tokens, self.choose(num_tokens))
        return kept + (self.turned_bytes if self.turns(num_tokens) else 0)

    def host_bytes(self, num_tokens: int) -> int:
        """What waits in the computer's memory."""
        return self.left_bytes(num_tokens, self.choose(num_tokens))

    def left_bytes(self, num_tokens: int, levels: Sequence[int]) -> int:
        """The same of blocks that keep these levels."""
        leaving = self._leaving()
        return sum(leaving.get(level, 0) for level in levels) * num_tokens

    def _leaving(self) -> dict[int, int]:
        """Bytes of a block and token that wait in the computer's memory, by level."""
        found = {HOST: self.token_bytes[INPUT] - self.token_bytes[HOST]}
        return found if self.away is None else found | {AWAY: self.away_bytes}

    @property
    def away_bytes(self) -> int:
        """Of one block's and token's products that may wait there: queries, keys and values, gate and up."""
        return self.token_bytes[ALL] - self.token_bytes[AWAY]

    def working_bytes(self, num_tokens: int) -> int:
        """While one block works: the most that it needs beside what all blocks keep."""
        levels = self.choose(num_tokens)
        return self._working(num_tokens, min(levels), max(levels))

    def beside_bytes(self, num_tokens: int) -> int:
        """The most that is needed at once beside what all blocks keep: by a block, or by the losses."""
        levels = self.choose(num_tokens)
        return self._beside(num_tokens, min(levels), max(levels))

    def _working(self, num_tokens: int, least: int, most: int) -> int:
        """Where the blocks keep from `least` to `most`."""
        wide = 0 if least >= ALL else min(num_tokens, MLP_ROWS) * self.wide_bytes
        if most >= ALL:
            wide = max(wide, num_tokens * (self.wide_bytes - self.spared_wide_bytes))
        return num_tokens * (self.transient_bytes - self.spared_bytes[least]) + wide + self.weight_bytes

    def _beside(self, num_tokens: int, least: int, most: int) -> int:
        head = 0 if self.head is None else self.head.working_bytes(num_tokens)
        return max(self._working(num_tokens, least, most), head)

    def less(self, num_tokens: int) -> "KeepLevels | None":
        """With less room, so that something else is chosen; None where nothing can be given up."""
        if self.turns(num_tokens):
            return replace(self, turned_bytes=0)
        now = self.choose(num_tokens)
        if all(level == HOST for level in now):
            return None
        smaller = replace(self, fixed=None, room_bytes=min(self.room_bytes, 2**50))
        held = sum(self.token_bytes[level] for level in now)
        while sum(self.token_bytes[level] for level in smaller.choose(num_tokens)) >= held:
            smaller = replace(smaller, room_bytes=int(smaller.room_bytes * 0.9) - 16 * MIB)
        return smaller

    def describe(self, num_tokens: int) -> str:
        """`20 blocks keep everything, 12 input and attention`."""
        levels = self.choose(num_tokens)
        parts = [
            f"{levels.count(level)} keep {LEVEL_NAMES[level]}" for level in sorted(set(levels), reverse=True)
        ]
        turned = "; weights in both orders" if self.turns(num_tokens) else ""
        return "blocks: " + ", ".join(parts) + turned


@lru_cache(maxsize=1024)
def _chosen(levels: KeepLevels, num_tokens: int) -> tuple[int, ...]:
    """The levels with which the least is made twice; of those, the fewest whose products are away."""
    best = levels.filled(num_tokens)
    if levels.away is None or min(best) >= ALL:
        return tuple(best)
    least = levels.repeated(num_tokens, best)
    for count in range(1, levels.away.most(num_tokens, levels.num_layers, levels.away_bytes) + 1):
        for blocks in places(count, levels.num_layers):
            kept = levels.filled(num_tokens, blocks)
            repeated = levels.repeated(num_tokens, kept)
            # Inputs may leave to make room for what returns: they are a part of it.
            within = levels.left_bytes(num_tokens, kept) <= levels.away.room_bytes
            if repeated < least and within and levels.fits(num_tokens, kept):
                best, least = kept, repeated
        if not least:
            break
    return tuple(best)
