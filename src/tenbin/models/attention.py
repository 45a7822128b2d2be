"""The attention tenbin registers with transformers: exact for packs of segments, SDPA for everything else.

A pack is one row of several examples. Instead of a dense (T, T) mask, each segment's queries meet only
its own keys: the cost is the sum of squares of the lengths, not the square of the sum, and on a CPU the
flash kernel stays in use. Any decoder whose layers pass keyword arguments through takes part
(Llama, GPT-2 and Gemma 3 do).
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tenbin"


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the examples of a pack begin and end: `offsets` has one more entry than there are segments."""

    offsets: tuple[int, ...]


def pack_attention(
    module: torch.nn.Module,
    query: Tensor,  # (1, H, T, Dh)
    key: Tensor,  # (1, Hkv, T, Dh)
    value: Tensor,  # (1, Hkv, T, Dh)
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **kwargs: Any,  # noqa: ANN401  (whatever the model passes on)
) -> tuple[Tensor, None]:
    """Causal attention within each segment of a pack; SDPA with the model's own mask where there is none.

    Returns:
        (1, T, H, Dh), and None for the weights.
    """
    if segments is None:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return out, None
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = []
    for start, end in pairwise(segments.offsets):
        span = slice(start, end)
        mask = _window_mask(end - start, sliding_window, query.device, query.dtype)
        parts.append(
            scaled_dot_product_attention(
                query[:, :, span],
                key[:, :, span],
                value[:, :, span],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
            )
        )
    out = torch.cat(parts, dim=2)  # (1, H, T, Dh)
    return out.transpose(1, 2), None


@lru_cache(maxsize=2)
def _window_mask(length: int, window: int | None, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """(T, T) to add to the scores of causal attention to the last `window` positions; None = no limit.

    Kept, and in the type of the scores: else every layer would make and save a copy of its own.
    """
    if window is None or length <= window:
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    hidden = (distance < 0) | (distance >= window)
    return torch.zeros(length, length, device=device, dtype=dtype).masked_fill_(hidden, -torch.inf)


def register() -> str:
    """Make the attention known to transformers; the name to load a model with."""
    # cuDNN's attention builds a plan for every new length, 0.3 s each: packs have a new one in every segment.
    torch.backends.cuda.enable_cudnn_sdp(False)
    AttentionInterface.register(NAME, pack_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
