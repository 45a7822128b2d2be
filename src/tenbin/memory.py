"""MemoryPlan: bytes by cause of LoRA training from a model's shape alone, and what fits a cap. No torch.

The figures are for one packed row of T tokens without recomputation, with the attention of
`models.attention` (no T x T matrix is kept). Sources are named at each term; `docs/decisions` says how
far the plan was from what was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tenbin.errors import BudgetError, Problem
from tenbin.models.shape import ModelShape

MIB = 2**20
CUDA_CONTEXT_BYTES = 770 * MIB
"""What the driver shows beyond the allocator's own: the CUDA context with cuBLAS (H200, CUDA 13: 769 MiB)."""
LOGIT_CHUNK_BYTES = 256 * MIB
"""As `train.loss.CHUNK_BYTES`; a test holds the two together."""
LENGTH_STEP = 64
CPU_MICRO_BATCH = 1024
"""Tokens of one row on a CPU: longer rows gain nothing there and cost memory."""
GPU_MICRO_BATCH = 8192
"""Tokens of one row on a GPU: by then the matrix products are large enough to fill it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Predicted bytes by cause, at one micro-batch size."""

    terms: Mapping[str, int]
    """weights, adapters, gradients, optimizer, activations, logits, kv_cache, reserve."""
    cap_bytes: int | None
    """None = no cap was given and none is known."""
    most_tokens: int
    """Tokens of one micro-batch."""

    @property
    def total_bytes(self) -> int:
        """All terms that are held at once: logits and KV cache are never there together."""
        together = dict(self.terms)
        shared = max(together.pop("logits") + together.pop("activations"), together.pop("kv_cache"))
        return sum(together.values()) + shared

    @property
    def fits(self) -> bool:
        """Whether the total is within the cap."""
        return self.cap_bytes is None or self.total_bytes <= self.cap_bytes


def activation_bytes_per_token(shape: ModelShape, dtype_bytes: int, rank: int) -> int:
    """Bytes saved for the backward pass by one token in all blocks.

    A block saves, per token: the input of each norm (in float32 for RMSNorm), the inputs of its groups of
    linear maps, queries, keys and values as attention takes them, attention's output (again: the linear map
    after it takes a copy in another layout) and log-sum-exp, the gate, up and activated products, and each
    LoRA's rank-wide product. The rotation and the norms' frozen weights save nothing.
    """
    d, inner = shape.hidden_size, shape.intermediate_size
    qkv = shape.q_size + 2 * shape.kv_size
    norms = 4 if shape.family == "gemma3" else 2
    normed = norms * d + (shape.q_size + shape.kv_size if shape.qk_norm else 0)
    linear_inputs = d + shape.q_size + d + inner  # of q,k,v; of o; of gate,up; of down
    mlp = (3 if shape.gated_mlp else 4) * inner  # GPT-2's gelu is a formula: four products are kept
    low_rank = rank * len(shape.linear_shapes())
    saved = (linear_inputs + qkv + shape.q_size + mlp + low_rank) * dtype_bytes
    norm_bytes = dtype_bytes if shape.family == "gpt2" else 4  # RMSNorm computes in float32
    return shape.num_layers * (norm_bytes * normed + saved + 4 * shape.num_heads)


def plan_training(
    shape: ModelShape,
    *,
    rank: int,
    most_tokens: int,
    dtype_bytes: int,
    cap_bytes: int | None,
    decode_tokens: int,
    gpu: bool,
) -> MemoryPlan:
    """Predict one training process.

    Args:
        most_tokens: of one micro-batch.
        dtype_bytes: 2 for bf16, 4 for fp32.
        decode_tokens: prompt and answer tokens that validation holds in its KV cache at once.
    """
    adapter = 4 * shape.lora_params(rank)  # float32 master weights
    logits = min(LOGIT_CHUNK_BYTES, 4 * shape.vocab_size * most_tokens)
    terms = {
        "weights": shape.num_params() * dtype_bytes,
        "adapters": adapter,
        "gradients": adapter,
        "optimizer": 2 * adapter,  # AdamW's two moments
        "activations": most_tokens * (activation_bytes_per_token(shape, dtype_bytes, rank)),
        # The chunk in the model's dtype, in float32, and the products of its backward in between.
        "logits": logits * (4 + dtype_bytes) // 4 * 2,
        "kv_cache": 2 * shape.kv_bytes_per_token(dtype_bytes) * decode_tokens,  # grown by copying
        "reserve": CUDA_CONTEXT_BYTES + 448 * MIB if gpu else 512 * MIB,
    }
    return MemoryPlan(terms=terms, cap_bytes=cap_bytes, most_tokens=most_tokens)


def longest_fitting(
    shape: ModelShape, *, rank: int, dtype_bytes: int, cap_bytes: int | None, decode_tokens: int, gpu: bool
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
