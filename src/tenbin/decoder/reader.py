"""Reader: the next tokens of many sequences at once, by the decoder's blocks over a cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tenbin.decoder.attend import without_flash
from tenbin.decoder.block import Block, Context, Heads
from tenbin.decoder.cache import KVCache
from tenbin.decoder.cached_attention import attend_cached
from tenbin.decoder.decoder import MLP_ROWS, Decoder
from tenbin.decoder.loss import CHUNK_BYTES
from tenbin.decoder.reading import Piece, Reading
from tenbin.decoder.some_rows import Selected
from tenbin.decoder.step_graphs import StepGraphs


@dataclass(frozen=True, slots=True)
class Following:
    """The tokens that a pass predicts, perhaps still being computed."""

    tokens: Tensor  # (N,) int64, in the computer's own memory
    ready: torch.cuda.Event | None
    """When they are there; None: now."""

    @classmethod
    def of(cls, tokens: Tensor) -> "Following":
        """Of (N,) tokens on any device; what is computed after them is not waited for."""
        if not tokens.is_cuda:
            return cls(tokens, None)
        place = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        place.copy_(tokens, non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record()
        return cls(place, ready)

    def ids(self) -> list[int]:
        """Wait for them."""
        if self.ready is not None:
            self.ready.synchronize()
        found: list[int] = self.tokens.tolist()
        return found


class Reader:
    """A decoder and a cache of keys and values.

    It reads with the adapters that the decoder has in use, as they were when they were last refreshed.
    """

    def __init__(self, decoder: Decoder, cache_tokens: int, *, graphs: bool = True) -> None:
        """Lay out the cache.

        Args:
            cache_tokens: its slots.
            graphs: repeat passes of one token a sequence as CUDA graphs, where there is a GPU.

        Raises:
            OutOfMemoryError: the device has not so much.
        """
        self.decoder = decoder
        self.cache = KVCache(
            decoder.blocks, cache_tokens, dtype=decoder.parts.head.dtype, device=decoder.device
        )
        self.graphs: StepGraphs | None = None
        if graphs and decoder.device.type == "cuda" and without_flash(self.cache.keys[0]) is None:
            self.graphs = StepGraphs(decoder, self.cache.unread)

    @torch.inference_mode()
    def read(self, pieces: Sequence[Piece]) -> Following:
        """Read the pieces into the cache -> the most likely next token of those that predict.

        Raises:
            OutOfMemoryError: nothing of the pass counts.
        """
        found = None if self.graphs is None else self.graphs.read(pieces, self.run)
        if found is None:
            found = self.run(Reading.make(pieces, self.decoder.device, unread=self.cache.unread))
        return Following.of(found)

    def run(self, reading: Reading) -> Tensor:
        """One pass over what was laid out -> (N,) int64."""
        parts = self.decoder.parts
        x = parts.embed(reading.input_ids, reading.position_ids)  # (T, D)
        tables = parts.rotations(x, reading.position_ids)
        ctx = Context(None, reading.routing, tables, MLP_ROWS)
        *first, last = self.decoder.blocks
        for layer, block in enumerate(first):
            x = self._read(layer, block, x, ctx, reading)
        if not reading.predicts.shape[0]:  # a piece of a long prompt: only its keys and values are read
            self.cache.write(len(first), reading.slots, last.heads(x, ctx))
            return reading.predicts
        selected = Selected.of(reading.predicts, reading.routing, x.shape[0], self.decoder.names)
        x = self._read(len(first), last, x, replace(ctx, selected=selected), reading)
        states = x if selected is not None else x[reading.predicts]  # (N, D)
        return most_likely(parts.final_norm.forward(states), parts.head)

    def _read(self, layer: int, block: Block, x: Tensor, ctx: Context, reading: Reading) -> Tensor:
        cache = self.cache

        def attention(heads: Heads) -> Tensor:
            cache.write(layer, reading.slots, heads)
            return attend_cached(
                heads.q,
                cache.keys[layer],
                cache.values[layer],
                reading.plan,
                scale=block.scale,
                window=block.window,
            )

        return block.read(x, ctx, attention)


def most_likely(hidden: Tensor, head: Tensor) -> Tensor:
    """States (N, D) and the output head (V, D) -> (N,) int64; logits of a few rows at once."""
    rows = max(1, CHUNK_BYTES // (4 * head.shape[0]))
    return torch.cat([(part @ head.t()).argmax(dim=-1) for part in torch.split(hidden, rows)])
