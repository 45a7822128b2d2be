"""ModelShape: the sizes of a model, read from its `config.json` without loading a weight; no torch here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tenbin.errors import ModelError, Problem

Family = Literal["llama", "gpt2", "gemma3"]

FAMILY_OF: dict[str, Family] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "llama",
    "qwen3": "llama",
    "gpt2": "gpt2",
    "gemma3_text": "gemma3",
}
"""`model_type` -> family: one layout of a block. What differs within a family is a field of ModelShape."""


class _Size(Protocol):
    """Looks up a size; remembers what is missing."""

    def __call__(self, name: str, default: int | None = None) -> int: ...


_TIED_BY_DEFAULT = {"gpt2", "gemma3_text"}
_GEMMA_FULL_EVERY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Everything about a decoder that decides its memory and its arithmetic."""

    family: Family
    model_type: str
    """As in `config.json`."""
    num_layers: int
    hidden_size: int
    """D: width of the residual stream."""
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    """Rows of the embedding, which may be more than the tokenizer has."""
    max_positions: int
    """Longest sequence the model was built for, in tokens."""
    tied_embeddings: bool
    """The output head is the embedding matrix."""
    sliding_window: int | None = None
    """Tokens that a sliding layer sees; None where no layer slides."""
    num_sliding_layers: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """A norm of head_dim weights on queries and on keys."""

    @classmethod
    def read(cls, source: Path | str | Mapping[str, Any]) -> "ModelShape":
        """The shape in a folder, a `config.json`, or the mapping it holds.

        Raises:
            ModelError: no such file, not JSON, a family that tenbin does not know, or sizes missing (all of
                them at once).
        """
        if isinstance(source, Mapping):
            return _from_config(source, "config.json")
        path = Path(source)
        path = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            raise ModelError(
                Problem(
                    where=str(path),
                    found="there is no config.json" if missing else f"it cannot be read: {error}",
                    remedy="name a Hugging Face model folder" if missing else "fetch the model again",
                )
            ) from error
        if not isinstance(config, dict):
            raise ModelError(
                Problem(where=str(path), found="it does not hold an object", remedy="fetch the model again")
            )
        return _from_config(config, str(path))

    @property
    def gated_mlp(self) -> bool:
        """Two projections up (gate and up) and one down, not one and one."""
        return self.family != "gpt2"

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together; the values are as wide."""
        return self.num_kv_heads * self.head_dim

    @property
    def qkv_size(self) -> int:
        """Width of queries, keys and values together."""
        return self.q_size + 2 * self.kv_size

    @property
    def up_size(self) -> int:
        """Width of what the MLP projects up, gate and up together."""
        return self.intermediate_size * (2 if self.gated_mlp else 1)

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each linear map of one block, by its name inside the block."""
        d, inner = self.hidden_size, self.intermediate_size
        if self.family == "gpt2":
            return {
                "attn.c_attn": (3 * d, d),
                "attn.c_proj": (d, d),
                "mlp.c_fc": (inner, d),
                "mlp.c_proj": (d, inner),
            }
        return {
            "self_attn.q_proj": (self.q_size, d),
            "self_attn.k_proj": (self.kv_size, d),
            "self_attn.v_proj": (self.kv_size, d),
            "self_attn.o_proj": (d, self.q_size),
            "mlp.gate_proj": (inner, d),
            "mlp.up_proj": (inner, d),
            "mlp.down_proj": (d, inner),
        }

    def params_by_part(self) -> dict[str, int]:
        """Number of weights by part; a tied head counts 0, since it is the embedding."""
        d, layers = self.hidden_size, self.num_layers
        biases = 0
        if self.qkv_bias:
            biases += self.qkv_size
        if self.out_bias:
            biases += d
        if self.mlp_bias:
            biases += self.up_size + d
        norm = 2 * d if self.family == "gpt2" else d  # LayerNorm has a bias, RMSNorm has none
        norms_per_block = 4 if self.family == "gemma3" else 2
        qk_norms = 2 * self.head_dim if self.qk_norm else 0
        embedding = self.vocab_size * d
        return {
            "embedding": embedding,
            "positions": self.max_positions * d if self.family == "gpt2" else 0,
            "linear": layers * sum(rows * columns for rows, columns in self.linear_shapes().values()),
            "bias": layers * biases,
            "norm": layers * (norms_per_block * norm + qk_norms) + norm,
            "head": 0 if self.tied_embeddings else embedding,
        }

    def num_params(self) -> int:
        """Number of weights, each counted once."""
        return sum(self.params_by_part().values())

    def lora_params(self, rank: int) -> int:
        """Number of trainable weights of one adapter on every linear map of every block."""
        return self.num_layers * sum(
            rank * (rows + columns) for rows, columns in self.linear_shapes().values()
        )

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Bytes that one more token adds to the cache of keys and values, while no window is full."""
        return 2 * self.num_layers * self.kv_size * dtype_bytes

    def kv_bytes(self, num_tokens: int, dtype_bytes: int) -> int:
        """Bytes of the cache of one sequence; a sliding layer holds no more than its window."""
        held = self.num_layers * num_tokens
        if self.sliding_window is not None:
            held -= self.num_sliding_layers * max(0, num_tokens - self.sliding_window)
        return 2 * held * self.kv_size * dtype_bytes

    def flops_per_token(
        self, context: float = 0.0, *, head_share: float = 1.0, training: bool = False
    ) -> float:
        """Floating-point operations for one token, a multiplication and an addition counted as two.

        Args:
            context: mean number of keys a token attends to; (T + 1) / 2 in a causal sequence of T tokens.
            head_share: share of the tokens that go through the output head.
            training: forward and backward with frozen weights. Then each weight is used twice (forward, and
                the gradient of its input), not three times; attention's backward is two of its forwards.

        Source: 2 operations a weight and attention as in Appendix B of PaLM (arXiv 2204.02311), without the
        third of it that is the gradient of the weights. Recomputed activations and LoRA's own products are
        not counted.
        """
        weights = self.params_by_part()["linear"] + head_share * self.vocab_size * self.hidden_size
        sliding = min(context, self.sliding_window) if self.sliding_window is not None else context
        keys = (self.num_layers - self.num_sliding_layers) * context + self.num_sliding_layers * sliding
        attention = 4 * self.q_size * keys
        return (4 * weights + 3 * attention) if training else (2 * weights + attention)


def _from_config(config: Mapping[str, Any], where: str) -> ModelShape:
    model_type = config.get("model_type")
    family = FAMILY_OF.get(str(model_type))
    if family is None:
        raise ModelError(
            Problem(
                where=where,
                field="model_type",
                found=f"{model_type!r} is not a model that tenbin knows",
                remedy=f"use a model of one of these types: {', '.join(FAMILY_OF)}",
            )
        )
    missing: list[Problem] = []

    def size(name: str, default: int | None = None) -> int:
        value = config.get(name)
        value = default if value is None else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        missing.append(
            Problem(
                where=where,
                field=name,
                found="missing" if value is None else f"{value!r} is not a positive whole number",
                remedy="fetch the model's config.json again",
            )
        )
        return 1

    shape = _gpt2(config, size) if family == "gpt2" else _llama_like(config, family, size)
    if missing:
        raise ModelError(missing)
    return shape


def _gpt2(config: Mapping[str, Any], size: _Size) -> ModelShape:
    width, heads = size("n_embd"), size("n_head")
    return ModelShape(
        family="gpt2",
        model_type="gpt2",
        num_layers=size("n_layer"),
        hidden_size=width,
        intermediate_size=size("n_inner", 4 * width),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        vocab_size=size("vocab_size"),
        max_positions=size("n_positions"),
        tied_embeddings=bool(config.get("tie_word_embeddings", True)),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def _llama_like(config: Mapping[str, Any], family: Family, size: _Size) -> ModelShape:
    model_type = str(config["model_type"])
    width, heads, layers = size("hidden_size"), size("num_attention_heads"), size("num_hidden_layers")
    window, num_sliding = _sliding(config, model_type, layers)
    attention_bias = bool(config.get("attention_bias", False)) and model_type != "mistral"
    return ModelShape(
        family=family,
        model_type=model_type,
        num_layers=layers,
        hidden_size=width,
        intermediate_size=size("intermediate_size"),
        num_heads=heads,
        num_kv_heads=size("num_key_value_heads", heads),
        head_dim=size("head_dim", {"gemma3_text": 256, "qwen3": 128}.get(model_type, width // heads)),
        vocab_size=size("vocab_size"),
        max_positions=size("max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", model_type in _TIED_BY_DEFAULT)),
        sliding_window=window,
        num_sliding_layers=num_sliding,
        qkv_bias=attention_bias or model_type == "qwen2",  # Qwen2 has them always, and no key that says so
        out_bias=attention_bias and model_type != "qwen2",
        mlp_bias=bool(config.get("mlp_bias", False)) and model_type == "llama",
        qk_norm=model_type in ("gemma3_text", "qwen3"),
    )


def _sliding(config: Mapping[str, Any], model_type: str, num_layers: int) -> tuple[int | None, int]:
    """(window in tokens, number of layers that use it). What a config leaves out is as in transformers."""
    default = {"gemma3_text": 4096, "mistral": 4096}.get(model_type)
    window = config.get("sliding_window", default)
    if window is None or model_type == "llama":
        return None, 0
    if model_type in ("qwen2", "qwen3") and not config.get("use_sliding_window", False):
        return None, 0
    kinds = config.get("layer_types")
    if kinds is not None:
        num_sliding = sum(kind == "sliding_attention" for kind in kinds)
    elif model_type == "gemma3_text":
        every = config.get("sliding_window_pattern", config.get("_sliding_window_pattern", _GEMMA_FULL_EVERY))
        num_sliding = sum((index + 1) % every != 0 for index in range(num_layers))
    elif model_type == "mistral":
        num_sliding = num_layers
    else:
        num_sliding = max(0, num_layers - int(config.get("max_window_layers", 28)))
    return (int(window), num_sliding) if num_sliding else (None, 0)
