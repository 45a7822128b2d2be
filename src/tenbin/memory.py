"""MemoryPlan: bytes by cause of LoRA training from a model's shape alone, and what fits a cap. No torch.

The figures are for one packed row of T tokens through `tenbin.decoder`, which says itself what it keeps, so
they are counted, not fitted. Each term names what it is; `docs/performance.md` says how far the plan was
from what was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tenbin.errors import BudgetError, Problem
from tenbin.models.shape import ModelShape

MIB = 2**20
CUDA_CONTEXT_BYTES = 770 * MIB
"""What the driver shows beyond the allocator's own: the CUDA context with cuBLAS (H200, CUDA 13: 769 MiB)."""
LOGIT_CHUNK_BYTES = 256 * MIB
"""As `decoder.loss.CHUNK_BYTES`; a test holds the two together."""
MLP_ROWS = 16384
"""As `decoder.decoder.MLP_ROWS`; a test holds the two together."""
LENGTH_STEP = 64
CPU_MICRO_BATCH = 1024
"""Tokens of one row on a CPU: longer rows gain nothing there and cost memory."""
GPU_MICRO_BATCH = 8192
"""Tokens of one row on a GPU: by then the matrix products are large enough to fill it."""
HOST, INPUT, ATTENTION, PROJECTIONS, ALL = range(5)
"""Levels of `decoder.block.Keep`; a test holds the two together."""
LEVEL_NAMES = (
    "in the computer's memory",
    "input",
    "input and attention",
    "all but the MLP's products",
    "everything",
)

BaseType = Literal["same", "fp8", "fp8-both"]
"""fp8-both: the weights in both orders, see `decoder.fp8`."""


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
    """A token, of one block at work that keeps everything."""
    wide_bytes: int
    """A row, of the products that are made in runs of at most MLP_ROWS rows."""
    fixed: tuple[int, ...] | None = None
    """Levels that were asked for, whatever the room; None: chosen."""

    def choose(self, num_tokens: int) -> list[int]:
        """Level of each block for a micro-batch of so many tokens, first block first."""
        if self.fixed is not None:
            return list(self.fixed)
        least = self.num_layers * self.token_bytes[HOST] * num_tokens
        room = self.room_bytes - self.working_bytes(num_tokens) - least
        kept = [HOST] * self.num_layers
        for level in (INPUT, ATTENTION, PROJECTIONS, ALL):
            for i in reversed(range(self.num_layers)):
                step = (self.token_bytes[level] - self.token_bytes[kept[i]]) * num_tokens
                if kept[i] == level - 1 and step <= room:
                    room -= step
                    kept[i] = level
        return kept

    def kept_bytes(self, num_tokens: int) -> int:
        """Of all blocks, at the levels that are chosen."""
        return num_tokens * sum(self.token_bytes[level] for level in self.choose(num_tokens))

    def working_bytes(self, num_tokens: int) -> int:
        """While one block works: the most that it needs beside what all blocks keep."""
        return num_tokens * self.transient_bytes + min(num_tokens, MLP_ROWS) * self.wide_bytes

    def less(self, num_tokens: int) -> "KeepLevels | None":
        """With less room, so that something else is chosen; None where nothing can be given up."""
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
        return "blocks: " + ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Predicted bytes by cause, at one micro-batch size."""

    terms: Mapping[str, int]
    """weights, adapters, gradients, optimizer, activations, working, logits, kv_cache, reserve."""
    cap_bytes: int | None
    """None = no cap was given and none is known."""
    most_tokens: int
    """Tokens of one micro-batch."""
    levels: KeepLevels
    """What the blocks keep under the cap."""

    @property
    def total_bytes(self) -> int:
        """All terms that are held at once: a block's work, the logits and the KV cache are never together."""
        together = dict(self.terms)
        working = max(together.pop("logits"), together.pop("working"))
        shared = max(working + together.pop("activations"), together.pop("kv_cache"))
        return sum(together.values()) + shared

    @property
    def fits(self) -> bool:
        """Whether the total is within the cap."""
        return self.cap_bytes is None or self.total_bytes <= self.cap_bytes


def kept_bytes(shape: ModelShape, dtype_bytes: int, rank: int) -> tuple[int, ...]:
    """Bytes that one block keeps of one token, by level (see `decoder.block.Keep`)."""
    d = shape.hidden_size
    qkv = shape.q_size + 2 * shape.kv_size
    up = shape.intermediate_size * (2 if shape.gated_mlp else 1)
    after = 1 if shape.family == "gemma3" else 0  # norms after attention and MLP need their inputs
    groups = (3, 1, 2, 1) if shape.gated_mlp else (1, 1, 1, 1)  # linear maps of qkv, o, up, down
    lows = [rank * n * dtype_bytes for n in groups]
    log_sum = 4 * shape.num_heads
    mlp_lows = lows[2] + lows[3]
    input_only = d * dtype_bytes + mlp_lows
    attention = input_only + (shape.q_size + d * (1 + 2 * after)) * dtype_bytes + log_sum + lows[0] + lows[1]
    projections = attention + qkv * dtype_bytes
    return mlp_lows, input_only, attention, projections, projections + up * dtype_bytes


def working_bytes(shape: ModelShape, dtype_bytes: int) -> tuple[int, int]:
    """(bytes a token, bytes a row of a run) that one block needs in its backward pass beside what it keeps.

    Attention's backward pass holds dy, dh, the gradients of its output, of q, k, v and of all three joined.
    The MLP's holds the activation's gradient, and the products themselves where they were not kept.
    """
    d = shape.hidden_size
    qkv = shape.q_size + 2 * shape.kv_size
    up = shape.intermediate_size * (2 if shape.gated_mlp else 1)
    repeated = shape.q_size + d + qkv  # attention's output, h and q, k, v of a block that kept x alone
    norms = 2 * (shape.q_size + shape.kv_size) if shape.qk_norm else 0
    attention = 2 * d + shape.q_size + 2 * qkv + norms + repeated
    wide = up + 2 * shape.intermediate_size + 2 * d
    accumulate = 4 * shape.q_size  # flash attention adds up dq in float32
    return attention * dtype_bytes + accumulate, wide * dtype_bytes


def plan_training(
    shape: ModelShape,
    *,
    rank: int,
    most_tokens: int,
    dtype_bytes: int,
    cap_bytes: int | None,
    decode_tokens: int,
    gpu: bool,
    base: BaseType = "same",
    num_adapters: int = 1,
) -> MemoryPlan:
    """Predict one training process.

    Args:
        most_tokens: of one micro-batch.
        dtype_bytes: 2 for bf16, 4 for fp32.
        decode_tokens: prompt and answer tokens that validation holds in its KV cache at once.
        base: type of the frozen linear maps: that of everything else, or fp8 (in one order or both).
        num_adapters: trained at once over one base.
    """
    lora = shape.lora_params(rank) * num_adapters
    logits = min(LOGIT_CHUNK_BYTES, 4 * shape.vocab_size * most_tokens)
    head = shape.hidden_size * dtype_bytes
    linear = shape.params_by_part()["linear"]
    weights = shape.num_params() * dtype_bytes
    if base != "same":
        weights -= linear * (dtype_bytes - (2 if base == "fp8-both" else 1))
    fixed = {
        "weights": weights,
        "adapters": (4 + dtype_bytes) * lora,  # float32 master weights, and copies in the model's type
        "gradients": 4 * lora,
        "optimizer": 8 * lora,  # AdamW's two moments
        "reserve": CUDA_CONTEXT_BYTES + 448 * MIB if gpu else 512 * MIB,
    }
    transient, wide = working_bytes(shape, dtype_bytes)
    room = (cap_bytes if cap_bytes is not None else 2**62) - sum(fixed.values())
    levels = KeepLevels(
        num_layers=shape.num_layers,
        token_bytes=kept_bytes(shape, dtype_bytes, rank * num_adapters),
        room_bytes=room,
        transient_bytes=transient,
        wide_bytes=wide,
    )
    terms = fixed | {
        "activations": levels.kept_bytes(most_tokens),
        "working": levels.working_bytes(most_tokens),
        # The chunk of logits and of their gradients, and the states that predict with their gradients.
        "logits": logits // 4 * 2 * dtype_bytes + 4 * head * most_tokens,
        "kv_cache": 2 * shape.kv_bytes_per_token(dtype_bytes) * decode_tokens,  # grown by copying
    }
    return MemoryPlan(terms=terms, cap_bytes=cap_bytes, most_tokens=most_tokens, levels=levels)


def longest_fitting(
    shape: ModelShape,
    *,
    rank: int,
    dtype_bytes: int,
    cap_bytes: int | None,
    decode_tokens: int,
    gpu: bool,
    base: BaseType = "same",
) -> int:
    """The most tokens of one row that the cap and the model's positions allow, in steps of 64.

    Raises:
        BudgetError: where not even the shortest row fits.
    """

    def plan(num_steps: int) -> MemoryPlan:
        return plan_training(
            shape,
            rank=rank,
            most_tokens=num_steps * LENGTH_STEP,
            dtype_bytes=dtype_bytes,
            cap_bytes=cap_bytes,
            decode_tokens=decode_tokens,
            gpu=gpu,
            base=base,
        )

    low, high = 0, max(1, shape.max_positions // LENGTH_STEP)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if plan(middle).fits else (low, middle - 1)
    if low == 0:
        needed = plan(1).total_bytes
        raise BudgetError(
            Problem(
                where="budget.vram_mib",
                found=f"{(cap_bytes or 0) / MIB:,.0f} MiB; rows of {LENGTH_STEP} tokens need"
                f" {needed / MIB:,.0f} MiB",
                remedy="choose a smaller model or allow more memory",
            )
        )
    return low * LENGTH_STEP
