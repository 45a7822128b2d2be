"""Adapters on disk, in PEFT's format: adapter_config.json, adapter_model.safetensors, and our tenbin.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tenbin.config import LoraConfig
from tenbin.errors import ModelError, Problem
from tenbin.models.files import atomic_folder, read_json, write_json
from tenbin.models.lora import (
    LoraLinear,
    add_adapter,
    config_of,
    inject,
    linear_names,
    lora_layers,
    matches,
    trainable,
)
from tenbin.types import JsonValue

CONFIG, WEIGHTS, INFO = "adapter_config.json", "adapter_model.safetensors", "tenbin.json"
PREFIX = "base_model.model."
AGAIN = "copy the adapter again, whole"
_REFUSED = {
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "trainable_token_indices": None,
    "lora_bias": False,
    "use_qalora": False,
    "alora_invocation_tokens": None,
    "target_parameters": None,
    "megatron_config": None,
}
"""Settings of PEFT that change the arithmetic, with the only value that means plain LoRA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFolder:
    """What a folder says about its adapter, without its weights."""

    path: Path
    base_model: str | None
    config: LoraConfig
    info: Mapping[str, Any]
    """`tenbin.json`, as it was given to `write_adapter`; empty for an adapter that PEFT made."""


def write_adapter(
    model: nn.Module, name: str, folder: Path, *, base_model: str, info: Mapping[str, JsonValue] | None = None
) -> None:
    """Write one adapter as PEFT reads it; all of the folder or nothing appears.

    Args:
        model: holds the adapter.
        name: of the adapter in the model.
        folder: made, or replaced if it holds an adapter.
        base_model: hub name or folder of the base model, as PEFT and servers look it up.
        info: what else belongs to the adapter (template, task, fingerprints, scores): `tenbin.json`.

    Raises:
        ModelError: the model has no such adapter, or the folder holds something else.
        StorageError: the disk is full or the folder cannot be written.
    """
    weights = {
        f"{PREFIX}{path}": parameter.detach().to("cpu", torch.float32).contiguous()
        for path, parameter in trainable(model, name).items()
    }
    config = _peft_config(model, name, base_model)
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise ModelError(
            Problem(where=str(folder), found="the folder holds something else", remedy="name another folder")
        )
    with atomic_folder(folder) as partial:
        save_file(weights, partial / WEIGHTS, metadata={"format": "pt"})
        write_json(partial / CONFIG, config)
        write_json(partial / INFO, dict(info or {}))


def read_folder(folder: Path) -> AdapterFolder:
    """Read and check what an adapter folder says, before any model is loaded.

    Raises:
        ModelError: every setting that is not plain LoRA, or a file that is missing or broken.
    """
    config = read_json(folder / CONFIG, AGAIN)
    info = read_json(folder / INFO, AGAIN) if (folder / INFO).exists() else {}
    problems = [
        Problem(
            where=str(folder / CONFIG),
            field=key,
            found=f"{config[key]!r} is not plain LoRA",
            remedy="train the adapter without it",
        )
        for key, plain in _REFUSED.items()
        if config.get(key, plain) not in (plain, None)
    ]
    if config.get("peft_type") != "LORA":
        problems.append(
            Problem(
                where=str(folder / CONFIG),
                field="peft_type",
                found=f"{config.get('peft_type')!r} is not LORA",
                remedy="use a LoRA adapter",
            )
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or alpha <= 0:
        problems.append(
            Problem(
                where=str(folder / CONFIG),
                field="r, lora_alpha",
                found=f"rank {rank!r} and alpha {alpha!r}",
                remedy="both must be positive numbers",
            )
        )
    if problems:
        raise ModelError(problems)
    assert isinstance(rank, int)
    return AdapterFolder(
        path=folder,
        base_model=config.get("base_model_name_or_path"),
        config=LoraConfig(rank=rank, alpha=float(alpha or 0), dropout=config.get("lora_dropout") or 0.0),
        info=info,
    )


def read_adapter(
    model: nn.Module, folder: Path, name: str, *, base_model: str | None = None, seed: int = 0
) -> AdapterFolder:
    """Put an adapter of PEFT's format into a model; it is not active yet.

    Args:
        model: its linear maps are wrapped as the adapter needs them.
        folder: with adapter_config.json and adapter_model.safetensors.
        name: for the adapter in this model.
        base_model: what the model is; an adapter made for another one is refused. None = not compared.
        seed: of dropout, should it be trained on.

    Raises:
        ModelError: everything that does not match: base model, modules, missing and surplus weights, shapes.
    """
    found = read_folder(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            Problem(
                where=str(folder / WEIGHTS),
                found=f"it cannot be read: {error}",
                remedy=AGAIN,
            )
        ) from error
    problems = []
    if base_model is not None and found.base_model is not None and base_model != found.base_model:
        problems.append(
            Problem(
                where=str(folder / CONFIG),
                field="base_model_name_or_path",
                found=f"the adapter was made for {found.base_model}, this model is {base_model}",
                remedy="load the adapter's own base model",
            )
        )
    modules, more = _check_weights(model, weights, found.config.rank, folder / WEIGHTS)
    if problems or more:
        raise ModelError([*problems, *more])
    inject(model, modules)
    add_adapter(model, name, found.config, seed, modules=modules)
    with torch.no_grad():
        for path, parameter in trainable(model, name).items():
            parameter.copy_(weights[PREFIX + path])
    return found


def _check_weights(
    model: nn.Module, weights: Mapping[str, torch.Tensor], rank: int, where: Path
) -> tuple[list[str], list[Problem]]:
    """Paths of the modules that the weights are for, and everything that is wrong with them."""
    names = linear_names(model)
    sizes = {name: _sizes(model.get_submodule(name)) for name in names}
    modules = [n for n in names if any(f"{PREFIX}{n}.lora_{half}.weight" in weights for half in "AB")]
    expected: dict[str, tuple[int, int]] = {}
    for module in modules:
        out_features, in_features = sizes[module]
        expected[f"{PREFIX}{module}.lora_A.weight"] = (rank, in_features)
        expected[f"{PREFIX}{module}.lora_B.weight"] = (out_features, rank)
    remedy = "use the adapter's own base model, or copy the adapter again"
    problems = [
        Problem(where=str(where), field=key, found="the weight is missing", remedy=remedy)
        for key in expected
        if key not in weights
    ]
    problems += [
        Problem(where=str(where), field=key, found="the model has no place for this weight", remedy=remedy)
        for key in weights
        if key not in expected
    ]
    problems += [
        Problem(
            where=str(where),
            field=key,
            found=f"shape {tuple(weights[key].shape)}, where the model needs {shape}",
            remedy=remedy,
        )
        for key, shape in expected.items()
        if key in weights and tuple(weights[key].shape) != shape
    ]
    if not weights:
        problems.append(Problem(where=str(where), found="there is no weight in it", remedy=remedy))
    return modules, problems


def _sizes(module: Any) -> tuple[int, int]:  # noqa: ANN401  (nn.Linear, Conv1D or LoraLinear)
    """(out, in) of a linear map."""
    if isinstance(module, nn.Linear | LoraLinear):
        return module.out_features, module.in_features
    return int(module.weight.shape[1]), int(module.weight.shape[0])


def _peft_config(model: nn.Module, name: str, base_model: str) -> dict[str, JsonValue]:
    config = config_of(model, name)
    layers = {path: layer for path, layer in lora_layers(model) if name in layer.configs}
    alpha = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(_targets(list(layers), linear_names(model))),
        "fan_in_fan_out": all(layer.transposed for layer in layers.values()),
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def _targets(chosen: list[str], names: list[str]) -> list[str]:
    """The shortest names that mean exactly these paths: `q_proj`, else `mlp.c_proj`, else whole paths."""
    for length in (1, 2):
        short = list(dict.fromkeys(".".join(path.split(".")[-length:]) for path in chosen))
        if [n for n in names if any(matches(n, target) for target in short)] == chosen:
            return short
    return chosen
