"""From a model of transformers to the blocks that tenbin computes: the names of each family's parts.

The weights of a group (queries, keys and values; gate and up) are moved next to each other, so that one
product serves them; the model's own modules become views of that memory, so nothing is held twice and
the model works as before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tenbin.decoder.block import Block
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PackedLinear, PlainFrozen
from tenbin.decoder.linear import LinearGroup, Part
from tenbin.decoder.nf4 import Nf4Frozen
from tenbin.decoder.norm import Norm
from tenbin.decoder.pointwise import Activation
from tenbin.errors import ModelError, Problem
from tenbin.models.lora import LoraLinear

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


MakeFrozen = Callable[[Tensor, Tensor | None], PlainFrozen | Fp8Frozen | Nf4Frozen]
_MakeGroup = Callable[..., LinearGroup]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a decoder consists of."""

    blocks: tuple[Block, ...]
    embed: Callable[[Tensor, Tensor], Tensor]
    """(ids, positions), both (T,) -> (T, D)."""
    rotations: Callable[[Tensor, Tensor], dict[str, tuple[Tensor, Tensor]]]
    """(any tensor of the model's type, positions) -> cosines and sines (T, Dh) by kind of layer."""
    final_norm: Norm
    head: Tensor  # (V, D)


def take_apart(model: nn.Module, make: "MakeFrozen") -> Parts:
    """The parts of a causal language model of transformers.

    Args:
        make: (weight (N, K), bias) -> how the frozen weights are held.

    Raises:
        ModelError: it has a feature that tenbin's blocks do not compute.
    """
    config: Any = model.config
    kind = str(config.model_type)
    refuse(config)
    group = partial(_group, model, make)
    return _gpt2(model, config, group) if kind == "gpt2" else _llama_like(model, config, kind, group)


def refuse(config: Any) -> None:  # noqa: ANN401
    """Refuse what would be computed wrongly rather than compute it wrongly.

    Raises:
        ModelError: naming each key.
    """
    problems = []
    name = getattr(config, "hidden_act", None) or getattr(config, "activation_function", None)
    name = getattr(config, "hidden_activation", None) or name
    if name not in ACTIVATIONS:
        problems.append(("hidden_act", f"the activation {name!r} is not one of {', '.join(ACTIVATIONS)}"))
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, key, None) is not None:
            problems.append((key, "capped logits are not computed"))
    rope = getattr(config, "rope_parameters", None) or {}
    for table in rope.values() if all(isinstance(v, dict) for v in rope.values()) else (rope,):
        if table.get("rope_type") in ("dynamic", "longrope"):
            found = f"{table['rope_type']!r} turns by the longest text of a pack"
            problems.append(("rope_parameters", found))
    if getattr(config, "use_bidirectional_attention", None):
        problems.append(("use_bidirectional_attention", "attention is causal here"))
    for key, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if getattr(config, key, usual) is not usual:
            problems.append((key, f"only {usual} is computed"))
    if problems:
        raise ModelError(
            [
                Problem(where="config.json", field=key, found=found, remedy="use another model")
                for key, found in problems
            ]
        )


def _activation(config: Any) -> Activation:  # noqa: ANN401
    name = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return ACTIVATIONS[name or config.activation_function]


def _llama_like(model: Any, config: Any, kind: str, group: _MakeGroup) -> Parts:  # noqa: ANN401
    inner = model.model
    gemma = kind == "gemma3_text"

    def norm(module: Any) -> Norm:  # noqa: ANN401
        eps = module.eps if gemma else module.variance_epsilon
        return Norm(module.weight, eps, unit_offset=gemma)

    blocks = []
    for layer in inner.layers:
        attention, mlp = layer.self_attn, layer.mlp
        sliding = getattr(attention, "sliding_window", None)
        window = getattr(config, "sliding_window", None) if kind == "mistral" else sliding
        q_norm, k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        head_dim = int(attention.head_dim)
        q_out, k_out = attention.q_proj.out_features, attention.k_proj.out_features
        mlp_norm = layer.pre_feedforward_layernorm if gemma else layer.post_attention_layernorm
        blocks.append(
            Block(
                attention_norm=norm(layer.input_layernorm),
                qkv=group(attention.q_proj, attention.k_proj, attention.v_proj),
                o=group(attention.o_proj),
                mlp_norm=norm(mlp_norm),
                up=group(mlp.gate_proj, mlp.up_proj),
                down=group(mlp.down_proj),
                num_heads=q_out // head_dim,
                num_kv_heads=k_out // head_dim,
                head_dim=head_dim,
                scale=float(attention.scaling),
                activation=_activation(config),
                gated=True,
                rotation=str(attention.layer_type) if gemma else "all",
                window=window,
                q_norm=norm(q_norm) if q_norm is not None else None,
                k_norm=norm(k_norm) if k_norm is not None else None,
                after_attention=norm(layer.post_attention_layernorm) if gemma else None,
                after_mlp=norm(layer.post_feedforward_layernorm) if gemma else None,
            )
        )

    def rotations(like: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        kinds = sorted({block.rotation for block in blocks if block.rotation is not None})
        tables = {}
        for name in kinds:
            extra = (name,) if gemma else ()
            cos, sin = inner.rotary_emb(like[None], positions[None], *extra)
            tables[name] = (cos[0], sin[0])
        return tables

    return Parts(
        tuple(blocks),
        lambda ids, positions: inner.embed_tokens(ids),
        rotations,
        norm(inner.norm),
        model.get_output_embeddings().weight,
    )


def _gpt2(model: Any, config: Any, group: _MakeGroup) -> Parts:  # noqa: ANN401
    inner = model.transformer

    def norm(module: Any) -> Norm:  # noqa: ANN401
        return Norm(module.weight, module.eps, bias=module.bias)

    heads = int(config.n_head)
    head_dim = int(config.n_embd) // heads
    blocks = tuple(
        Block(
            attention_norm=norm(layer.ln_1),
            qkv=group(layer.attn.c_attn),
            o=group(layer.attn.c_proj),
            mlp_norm=norm(layer.ln_2),
            up=group(layer.mlp.c_fc),
            down=group(layer.mlp.c_proj),
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            activation=_activation(config),
            gated=False,
        )
        for layer in inner.h
    )
    return Parts(
        blocks,
        lambda ids, positions: inner.wte(ids) + inner.wpe(positions),
        lambda like, positions: {},
        norm(inner.ln_f),
        model.get_output_embeddings().weight,
    )


def _group(model: nn.Module, make: MakeFrozen, *modules: nn.Module) -> LinearGroup:
    """Linear maps of one input, their weights side by side."""
    bases: list[Any] = [module.base if isinstance(module, LoraLinear) else module for module in modules]
    if isinstance(bases[0], Conv1D):
        (base,) = bases
        weight, bias = base.weight.t(), base.bias
    else:
        weight = _together([base.weight for base in bases])
        biases = [base.bias for base in bases if base.bias is not None]
        assert len(biases) in (0, len(bases)), "some maps of a group have a bias and some have none"
        bias = torch.cat(biases) if biases else None
    widths = [int(base.weight.shape[1 if isinstance(base, Conv1D) else 0]) for base in bases]
    frozen = make(weight.detach(), bias.detach() if bias is not None else None)
    parts, start = [], 0
    for module, base, width in zip(modules, bases, widths, strict=True):
        end = start + width
        if not isinstance(frozen, PlainFrozen):
            _replace(model, module, base, PackedLinear(frozen.rows(start, end)))
        parts.append(Part(start, end, module if isinstance(module, LoraLinear) else None))
        start = end
    return LinearGroup(frozen, tuple(parts))


def _replace(model: nn.Module, module: nn.Module, base: nn.Module, by: nn.Module) -> None:
    """Put another module in the place of a linear map, inside its adapters' layer where it has one."""
    if isinstance(module, LoraLinear):
        module.base = by  # type: ignore[assignment]  # what LoraLinear asks of its base, it has
        return
    path = next(name for name, other in model.named_modules() if other is base)
    model.set_submodule(path, by)


def _together(weights: Sequence[nn.Parameter]) -> Tensor:
    """The weights (N_i, K) as one (N, K), each a view of it from now on."""
    first = weights[0]
    if len(weights) == 1:
        return first
    rows = sum(w.shape[0] for w in weights)
    expected, together = first.data_ptr(), True
    for w in weights:
        together = together and w.is_contiguous() and w.data_ptr() == expected
        expected += w.numel() * w.element_size()
    if together and first.untyped_storage().nbytes() >= rows * first.shape[1] * first.element_size():
        return first.detach().as_strided((rows, first.shape[1]), first.stride())
    whole = torch.cat([w.detach() for w in weights])
    start = 0
    for w in weights:
        w.data = whole[start : start + w.shape[0]]
        start += w.shape[0]
    return whole
