"""What generation reads at once, and the bytes that a pass of it takes, from a model's shape. No torch."""

from tenbin.models.shape import ModelShape

GPU_PASS_TOKENS, CPU_PASS_TOKENS = 8192, 1024
"""Most tokens of one pass. By 8,192 the matrix products are large enough to fill a GPU."""
CPU_CACHE_TOKENS = 16384
"""Of prompts and answers held at once on a CPU: more gain nothing there."""
MOST_ROWS = 512
"""Answers written at once."""
READING_SPARE = 1.5
"""A pass times this is left free beside the cache: memory comes in blocks, and graphs have their own."""
LOGIT_CHUNK_BYTES = 256 * 2**20
"""As `decoder.loss.CHUNK_BYTES`; a test holds the two together."""


def reading_bytes(shape: ModelShape, num_tokens: int, dtype_bytes: int) -> int:
    """What one pass holds while a block works, beside the cache; `generate.room` counts the same of blocks.

    Attention: the norm's output, q, k, v and, where they are normed, their copies; two outputs, joined in
    float32. The MLP: its input, its products and their activation. And a chunk of logits.
    """
    d, q, kv = shape.hidden_size, shape.q_size, shape.kv_size
    norms = q + kv if shape.qk_norm else 0
    attention = (3 * d + 3 * q + 2 * kv + norms) * dtype_bytes + 12 * q
    mlp = (5 * d + (3 if shape.gated_mlp else 2) * shape.intermediate_size) * dtype_bytes
    logits = min(LOGIT_CHUNK_BYTES // 4, num_tokens * shape.vocab_size) * dtype_bytes
    return num_tokens * max(attention, mlp) + logits


def spared_bytes(shape: ModelShape, dtype_bytes: int, *, gpu: bool) -> int:
    """Left free for the largest passes."""
    tokens = GPU_PASS_TOKENS if gpu else CPU_PASS_TOKENS
    return int(READING_SPARE * reading_bytes(shape, tokens, dtype_bytes))
