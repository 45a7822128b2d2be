"""How large a cache and a pass may be on this device, beside what it holds already."""

import torch

from tenbin.decoder.cache import bytes_per_slot
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.loss import CHUNK_BYTES
from tenbin.memory_reading import CPU_CACHE_TOKENS, READING_SPARE


def cache_tokens_here(decoder: Decoder, longest: int, pass_tokens: int, *, planned: int | None) -> int:
    """Most tokens of a cache: what this GPU has room for now, as far as planned; on a CPU a usual size.

    Args:
        longest: tokens of the longest prompt with its answer; a CPU has room for it in any case.
        pass_tokens: of one pass, whose own memory is left free.
    """
    device = decoder.device
    if device.type != "cuda":
        return max(CPU_CACHE_TOKENS, longest) if planned is None else planned
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(torch.cuda.get_per_process_memory_fraction(device) * total)
    room = min(free, allowed - torch.cuda.memory_reserved(device))
    dtype = decoder.parts.head.dtype
    room -= int(READING_SPARE * pass_bytes(decoder, pass_tokens))
    found = max(1, room // bytes_per_slot(decoder.blocks, dtype))
    if planned is not None and found < planned and decoder.release():
        return cache_tokens_here(decoder, longest, pass_tokens, planned=planned)
    return found if planned is None else min(planned, found)


def pass_bytes(decoder: Decoder, num_tokens: int) -> int:
    """What one pass holds while a block works: as `memory_reading.reading_bytes`, from the blocks."""
    block, head = decoder.blocks[0], decoder.parts.head
    d = head.shape[1]
    q, kv = block.num_heads * block.head_dim, block.num_kv_heads * block.head_dim
    inner = block.down.frozen.in_features
    norms = q + kv if block.q_norm is not None else 0
    attention = (3 * d + 3 * q + 2 * kv + norms) * head.dtype.itemsize + 12 * q
    mlp = (5 * d + (3 if block.gated else 2) * inner) * head.dtype.itemsize
    logits = min(CHUNK_BYTES // 4, num_tokens * head.shape[0]) * head.dtype.itemsize
    return num_tokens * max(attention, mlp) + logits
