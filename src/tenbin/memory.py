"""MemoryPlan: bytes by cause of LoRA training from a model's shape alone, and what fits a cap. No torch.

The figures are for one packed row of T tokens through `tenbin.decoder`, which says itself what it keeps, so
they are counted, not fitted. Each term names what it is; `docs/performance.md` says how far the plan was
from what was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenbin.errors import BudgetError, Problem
from tenbin.memory_away import Away as Away
from tenbin.memory_keeping import ALL as ALL
from tenbin.memory_keeping import ATTENTION as ATTENTION
from tenbin.memory_keeping import AWAY as AWAY
from tenbin.memory_keeping import HOST as HOST
from tenbin.memory_keeping import INPUT as INPUT
from tenbin.memory_keeping import LEVEL_NAMES as LEVEL_NAMES
from tenbin.memory_keeping import MIB as MIB
from tenbin.memory_keeping import MLP_ROWS as MLP_ROWS
from tenbin.memory_keeping import PROJECTIONS as PROJECTIONS
from tenbin.memory_keeping import Head as Head
from tenbin.memory_keeping import KeepLevels as KeepLevels
from tenbin.memory_reading import CPU_CACHE_TOKENS as CPU_CACHE_TOKENS
from tenbin.memory_reading import CPU_PASS_TOKENS as CPU_PASS_TOKENS
from tenbin.memory_reading import GPU_PASS_TOKENS as GPU_PASS_TOKENS
from tenbin.memory_reading import LOGIT_CHUNK_BYTES as LOGIT_CHUNK_BYTES
from tenbin.memory_reading import READING_SPARE as READING_SPARE
from tenbin.memory_reading import reading_bytes as reading_bytes
from tenbin.memory_reading import spared_bytes
from tenbin.models.shape import ModelShape
from tenbin.types import BaseType as BaseType

CUDA_CONTEXT_BYTES = 770 * MIB
"""What the driver shows beyond the allocator's own: the CUDA context with cuBLAS (H200, CUDA 13: 769 MiB)."""
LENGTH_STEP = 64
CPU_MICRO_BATCH = 1024
"""Tokens of one row on a CPU: longer rows gain nothing there and cost memory."""
GPU_MICRO_BATCH = 8192
"""Tokens of one row on a GPU: by then the matrix products are large enough to fill it."""
BASE_BYTES = {"fp8": 1.0, "fp8-both": 2.0, "nf4": 1 / 2 + 1 / 64 + 4 / (64 * 256)}
"""Of a frozen weight that is not in the type of everything else; nf4 with its scales, see `decoder.nf4`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Predicted bytes by cause, at one micro-batch size."""

    terms: Mapping[str, int]
    """weights, adapters, gradients, optimizer, activations, working, logits, kv_cache, reading, reserve; and
    correction (how much more is held than these say, or less) where it was measured."""
    cap_bytes: int | None
    """None = no cap was given and none is known."""
    most_tokens: int
    """Tokens of one micro-batch."""
    levels: KeepLevels
    """What the blocks keep under the cap."""

    @property
    def total_bytes(self) -> int:
        """All terms that are held at once: training's work and its losses are never together, nor is either
        with generation's cache and passes."""
        together = dict(self.terms)
        working = max(together.pop("logits"), together.pop("working"))
        generation = together.pop("kv_cache") + together.pop("reading", 0)
        shared = max(working + together.pop("activations"), generation)
        return sum(together.values()) + shared

    @property
    def host_bytes(self) -> int:
        """What waits in the computer's memory, beside all of this."""
        return self.levels.host_bytes(self.most_tokens)

    def training_bytes(self, num_tokens: int) -> int:
        """Held at once by a micro-batch of so many tokens, all of them targets."""
        return self.fixed_bytes + self.levels.kept_bytes(num_tokens) + self.levels.beside_bytes(num_tokens)

    @property
    def fixed_bytes(self) -> int:
        """Held all the time."""
        varying = ("activations", "working", "logits", "kv_cache", "reading")
        return sum(size for cause, size in self.terms.items() if cause not in varying)

    def corrected(self, surplus_bytes: int, levels: KeepLevels) -> "MemoryPlan":
        """With a measurement taken into account: so much less is held than planned (negative: more), and the
        blocks keep these levels from now on."""
        terms = {**self.terms, "activations": levels.kept_bytes(self.most_tokens)}
        terms["correction"] = self.terms.get("correction", 0) - surplus_bytes
        return replace(self, terms=terms, levels=levels)

    @property
    def fits(self) -> bool:
        """Whether the total is within the cap."""
        return self.cap_bytes is None or self.total_bytes <= self.cap_bytes


def kept_bytes(shape: ModelShape, dtype_bytes: int, rank: int) -> tuple[int, ...]:
    """Bytes that one block keeps of one token, by level (see `decoder.block.Keep`)."""
    d = shape.hidden_size
    qkv, up = shape.qkv_size, shape.up_size
    after = 1 if shape.family == "gemma3" else 0  # norms after attention and MLP need their inputs
    groups = (3, 1, 2, 1) if shape.gated_mlp else (1, 1, 1, 1)  # linear maps of qkv, o, up, down
    lows = [rank * n * dtype_bytes for n in groups]
    log_sum = 4 * shape.num_heads
    mlp_lows = lows[2] + lows[3]
    input_only = d * dtype_bytes + mlp_lows
    attention = input_only + (shape.q_size + d * (1 + 2 * after)) * dtype_bytes + log_sum + lows[0] + lows[1]
    projections = attention + qkv * dtype_bytes
    everything = projections + up * dtype_bytes
    return mlp_lows, input_only, attention, projections, everything, attention


def working_bytes(shape: ModelShape, dtype_bytes: int) -> tuple[int, int]:
    """(bytes a token, bytes a row of a run) that one block that kept nothing needs in its backward pass.

    Attention's backward pass holds dy, dh, the gradients of its output, of q, k, v and of all three joined.
    The MLP's holds the activation's gradient, and the products themselves where they were not kept.
    """
    d = shape.hidden_size
    qkv, up = shape.qkv_size, shape.up_size
    repeated = shape.q_size + d + qkv  # attention's output, h and q, k, v of a block that kept x alone
    norms = 2 * (shape.q_size + shape.kv_size) if shape.qk_norm else 0
    attention = 2 * d + shape.q_size + 2 * qkv + norms + repeated
    wide = up + 2 * shape.intermediate_size + 2 * d
    accumulate = 4 * shape.q_size  # flash attention adds up dq in float32
    if shape.kv_size < shape.q_size:  # and gives each head of queries keys and values of its own
        accumulate += 2 * shape.q_size * dtype_bytes
    return attention * dtype_bytes + accumulate, wide * dtype_bytes


def spared_by_level(shape: ModelShape, dtype_bytes: int) -> tuple[int, ...]:
    """Bytes a token, by level, that a block does not make again because it kept them."""
    attention = (shape.q_size + shape.hidden_size) * dtype_bytes  # attention's output, and h
    projections = attention + shape.qkv_size * dtype_bytes
    return 0, 0, attention, projections, projections, projections


def away_products(shape: ModelShape, base: BaseType, room_bytes: int) -> Away:
    """What products that wait in the computer's memory spare a block, and how many it has time to copy."""
    d, qkv, up = shape.hidden_size, shape.qkv_size, shape.up_size
    made = 2 * d * up, 2 * d * (up + qkv), 2 * d * (up + qkv + shape.q_size)
    whole = made[2] + 2 * d * shape.intermediate_size
    return Away(
        room_bytes=room_bytes,
        token_operations=whole // 2 if base == "fp8" else whole,  # which multiplies twice as fast
        key_operations=4 * shape.q_size,
        repeated=(made[2], made[2], made[1], made[0], 0),
        repeats_attention=(True, True, False, False, False),
    )


def _made_bytes(shape: ModelShape, dtype_bytes: int, base: BaseType) -> int:
    """Of the largest group's weight made anew for a product: whole from 4 bits with its scales (float32, one
    a block of 64), or turned in 8 bits."""
    largest = shape.hidden_size * max(shape.qkv_size, shape.up_size)
    if base == "nf4":
        return largest * dtype_bytes + largest // 64 * 4
    return largest if base == "fp8" else 0


def _reserve_bytes(weights: int) -> int:
    """The CUDA context, workspaces of libraries, and what tensors as large as these leave between them."""
    return CUDA_CONTEXT_BYTES + 200 * MIB + min(248 * MIB, weights // 16)


def cache_tokens(plan: MemoryPlan, shape: ModelShape, dtype_bytes: int, *, gpu: bool) -> int:
    """Most prompt and answer tokens that generation can hold at once under the cap, beside the adapters.

    On a CPU, where nothing is capped, a size beyond which nothing is gained.
    """
    if plan.cap_bytes is None or not gpu:
        return CPU_CACHE_TOKENS
    room = plan.cap_bytes - plan.fixed_bytes - spared_bytes(shape, dtype_bytes, gpu=gpu)
    return max(1, room // shape.kv_bytes_per_token(dtype_bytes))


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
    host_bytes: int = 0,
) -> MemoryPlan:
    """Predict one training process.

    Args:
        most_tokens: of one micro-batch.
        dtype_bytes: 2 for bf16, 4 for fp32.
        decode_tokens: prompt and answer tokens that validation holds in its KV cache at once; 0: none.
        base: type of the frozen linear maps.
        num_adapters: trained at once over one base.
        host_bytes: of the computer's memory, for products that would be made twice otherwise.
    """
    lora = shape.lora_params(rank) * num_adapters
    linear = shape.params_by_part()["linear"]
    weights = shape.num_params() * dtype_bytes
    if base != "same":
        weights -= int(linear * (dtype_bytes - BASE_BYTES[base]))
    fixed = {
        "weights": weights,
        "adapters": (4 + dtype_bytes) * lora,  # float32 master weights, and copies in the model's type
        "gradients": 4 * lora,
        "optimizer": 8 * lora,  # AdamW's two moments
        "reserve": _reserve_bytes(weights) if gpu else 512 * MIB,
    }
    transient, wide = working_bytes(shape, dtype_bytes)
    head = Head(vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, dtype_bytes=dtype_bytes)
    room = (cap_bytes if cap_bytes is not None else 2**62) - sum(fixed.values())
    levels = KeepLevels(
        num_layers=shape.num_layers,
        token_bytes=kept_bytes(shape, dtype_bytes, rank * num_adapters),
        room_bytes=room,
        transient_bytes=transient,
        wide_bytes=wide,
        spared_bytes=spared_by_level(shape, dtype_bytes),
        spared_wide_bytes=shape.up_size * dtype_bytes,
        weight_bytes=_made_bytes(shape, dtype_bytes, base),
        turned_bytes=linear if base == "fp8" and gpu else 0,
        head=head,
        away=away_products(shape, base, host_bytes) if gpu and host_bytes else None,
    )
    terms = fixed | {
        "activations": levels.kept_bytes(most_tokens),
        "working": levels.working_bytes(most_tokens),
        "logits": head.working_bytes(most_tokens),
        "kv_cache": shape.kv_bytes_per_token(dtype_bytes) * decode_tokens,
        "reading": spared_bytes(shape, dtype_bytes, gpu=gpu) if decode_tokens else 0,
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
