"""GeneratePlan: bytes by cause while a model answers prompts, and how many tokens the cache holds; no torch.

What is not the cache is counted first; the cache gets the rest of the cap, and no more than the work needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tenbin.memory import CPU_CACHE_TOKENS, READING_SPARE, BaseType, plan_training, reading_bytes
from tenbin.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratePlan:
    """Predicted bytes by cause, all held at once."""

    terms: Mapping[str, int]
    """weights, adapters, reserve, reading, kv_cache."""
    cache_tokens: int
    """That keys and values are held of; 0: there is no room for any."""

    @property
    def total_bytes(self) -> int:
        """All terms."""
        return sum(self.terms.values())


def plan_generation(
    shape: ModelShape,
    *,
    needed_tokens: int,
    longest: int,
    most_tokens: int,
    cap_bytes: int | None,
    gpu: bool,
    base: BaseType = "same",
    num_adapters: int = 0,
    rank: int = 16,
    dtype_bytes: int = 2,
) -> GeneratePlan:
    """Predict one process that answers prompts.

    Args:
        needed_tokens: of all prompts and answers: more of a cache would stay empty.
        longest: tokens of the longest prompt with its answer; a CPU has room for it in any case.
        most_tokens: read at once.
        cap_bytes: None: none is set, and the cache is that of a CPU.
    """
    terms = plan_training(
        shape,
        rank=rank,
        most_tokens=most_tokens,
        dtype_bytes=dtype_bytes,
        cap_bytes=cap_bytes,
        decode_tokens=0,
        gpu=gpu,
        base=base,
        num_adapters=num_adapters,
    ).terms
    fixed = {name: terms[name] for name in ("weights", "adapters", "reserve")}
    fixed["reading"] = int(READING_SPARE * reading_bytes(shape, most_tokens, dtype_bytes))
    each = shape.kv_bytes_per_token(dtype_bytes)
    room = max(CPU_CACHE_TOKENS, longest)
    if cap_bytes is not None:
        room = (cap_bytes - sum(fixed.values())) // each
    tokens = max(0, min(needed_tokens, room))
    return GeneratePlan(terms={**fixed, "kv_cache": tokens * each}, cache_tokens=tokens)
