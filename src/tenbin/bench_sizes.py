"""Sizes of the models that are measured, as a `config.json` has them; no torch here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenbin.errors import ModelError, Problem

_LLAMA = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 262144}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "7b": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "13b": {
        **_LLAMA,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "gpt2-13b": {
        "model_type": "gpt2",
        "n_embd": 5120,
        "n_layer": 40,
        "n_head": 40,
        "n_inner": 20480,
        "n_positions": 65536,
        "vocab_size": 50688,
    },
    "gemma-3-270m": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "max_position_embeddings": 65536,
        "sliding_window": 512,
    },
    "tiny": {
        **_LLAMA,
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "tiny-gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 128,
        "n_positions": 4096,
        "vocab_size": 512,
    },
}
"""Llama-2 7B and 13B, LLM-jp 13B (GPT-2's layout), Gemma 3 270M, and two that any CPU can try."""


def model_sizes(name: str) -> Mapping[str, Any]:
    """The sizes of a known model, or those in a model folder.

    Raises:
        ModelError: no known name, and no folder with a `config.json` that can be read.
    """
    if name in MODELS:
        return MODELS[name]
    path = Path(name) / "config.json"
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            Problem(
                where="--model",
                found=f"{name!r} is no known size, and there is no {path}",
                remedy=f"name a model folder or one of {', '.join(MODELS)}",
            )
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            Problem(where=str(path), found=f"it cannot be read: {error}", remedy="fetch the model again")
        ) from error
    if not isinstance(sizes, dict):
        raise ModelError(
            Problem(where=str(path), found="it does not hold an object", remedy="fetch the model again")
        )
    return sizes
