"""Base models from a hub name, a folder or a `.gguf` file: checked, loaded, frozen."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.errors import MissingExtra, ModelError, Problem
from tenbin.models.files import fingerprint_folder, read_json
from tenbin.models.quiet import quiet
from tenbin.models.shape import ModelShape
from tenbin.models.tokenizer import load_tokenizer

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = (
    "convert it where you trust it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new), "
    "then name the new folder"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A base model that is on this machine."""

    name: str
    """As the user named it."""
    kind: Literal["hub", "folder", "gguf"]
    folder: Path
    """safetensors, config.json and tokenizer; of a `.gguf` file the converted one."""
    fingerprint: str
    """16 hex digits of what is in the folder: two models of one name do not pass for each other."""
    tokenizer: Path
    """Folder of the tokenizer; mostly the model's."""

    @property
    def shape(self) -> ModelShape:
        """Sizes, from config.json."""
        return ModelShape.read(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A frozen base model in memory, with its tokenizer."""

    model: nn.Module
    tokenizer: Any
    shape: ModelShape
    name: str
    fingerprint: str


def resolve_source(
    source: str,
    *,
    cache_dir: Path,
    offline: bool = False,
    tokenizer: str | None = None,
    weights: bool = True,
    progress: Callable[[str], None] | None = None,
) -> ModelSource:
    """Find a base model, or fetch or convert it, and check it before any weight is loaded.

    Args:
        source: hub name (`llm-jp/llm-jp-13b-v1.0`), folder, or `.gguf` file.
        cache_dir: tenbin's own; what is converted from `.gguf` goes there. Hub models go to the hub's cache.
        offline: never use the network; a hub model must be in the hub's cache then.
        tokenizer: folder or hub name, where the model's own folder has none.
        weights: False: of a hub model only what a plan needs (config and tokenizer) is fetched and checked.
        progress: called with one line for what takes long.

    Raises:
        ModelError: not to be had, or not usable: every reason at once.
        StorageError: no room for a converted model.
    """
    path = Path(source).expanduser()
    kind: Literal["hub", "folder", "gguf"]
    if path.suffix.lower() == ".gguf":
        from tenbin.models.gguf import convert  # reading gguf is slow to import, and rare

        kind, folder = "gguf", convert(path, cache_dir, progress)
    elif path.is_dir():
        kind, folder = "folder", path
    else:
        kind = "hub"
        folder = _from_hub(source, offline=offline, progress=progress, weights=weights)
    tokenizer_folder = folder
    if tokenizer is not None:
        tokenizer_folder = Path(tokenizer).expanduser()
        if not tokenizer_folder.is_dir():
            tokenizer_folder = _from_hub(tokenizer, offline=offline, progress=progress, weights=False)
    problems = check_folder(folder, has_tokenizer=tokenizer is not None, has_weights=weights or kind != "hub")
    if problems:
        raise ModelError(problems)
    return ModelSource(
        name=source,
        kind=kind,
        folder=folder,
        fingerprint=fingerprint_folder(folder),
        tokenizer=tokenizer_folder,
    )


def check_folder(folder: Path, *, has_tokenizer: bool = False, has_weights: bool = True) -> list[Problem]:
    """Everything that keeps a folder from being used as a base model; empty where it is fine.

    Args:
        folder: of the model.
        has_tokenizer: a tokenizer is given from elsewhere.
        has_weights: False: the weights were not fetched and are not looked for.
    """
    where = str(folder)
    if not (folder / "config.json").exists():
        adapter = (folder / "adapter_config.json").exists()
        return [
            Problem(
                where=where,
                found="this is an adapter, not a base model" if adapter else "there is no config.json",
                remedy="name the base model" if adapter else "name a Hugging Face model folder",
            )
        ]
    try:
        config = read_json(folder / "config.json", "fetch the model again")
        problems = _config_problems(config, str(folder / "config.json"))
        if not problems:
            ModelShape.read(folder)
    except ModelError as error:
        problems = list(error.problems)
    problems += _weight_problems(folder) if has_weights else []
    names = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if not has_tokenizer and not any((folder / name).exists() for name in names):
        problems.append(
            Problem(
                where=where,
                found="there is no tokenizer in it",
                remedy='copy tokenizer.json into it, or set tokenizer = "FOLDER" for this model',
            )
        )
    return problems


def _config_problems(config: dict[str, Any], where: str) -> list[Problem]:
    problems = []
    if "auto_map" in config:
        problems.append(
            Problem(
                where=where,
                field="auto_map",
                found="the model brings its own Python code, which tenbin never runs",
                remedy="use a model whose code is part of transformers",
            )
        )
    if "quantization_config" in config:
        problems.append(
            Problem(
                where=where,
                field="quantization_config",
                found=f"the weights are quantized ({config['quantization_config'].get('quant_method')})",
                remedy="use the unquantized model, or a .gguf file",
            )
        )
    kinds = config.get("architectures") or []
    if kinds and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in kinds):
        problems.append(
            Problem(
                where=where,
                field="architectures",
                found=f"{', '.join(kinds)} does not generate text",
                remedy="use a causal language model (...ForCausalLM)",
            )
        )
    return problems


def _weight_problems(folder: Path) -> list[Problem]:
    where = str(folder)
    if (folder / INDEX).exists():
        shards = set(read_json(folder / INDEX, "fetch the model again").get("weight_map", {}).values())
        return [
            Problem(where=str(folder / shard), found="the file is missing", remedy="fetch the model again")
            for shard in sorted(shards)
            if not (folder / shard).exists()
        ]
    if (folder / WEIGHTS).exists():
        return []
    if any(True for pattern in _PICKLES for _ in folder.glob(pattern)):
        found, remedy = (
            "the weights are pickle files, which can run code; tenbin reads safetensors only",
            _CONVERT,
        )
    else:
        found, remedy = f"there is no {WEIGHTS}", "fetch the model again"
    return [Problem(where=where, found=found, remedy=remedy)]


def _from_hub(
    name: str, *, offline: bool, progress: Callable[[str], None] | None, weights: bool = True
) -> Path:
    """Folder of a hub model in the hub's cache, fetched unless offline."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if not HUB_NAME.fullmatch(name):
        raise ModelError(
            Problem(where=name, found="there is no such file or folder", remedy="check the path of the model")
        )
    if progress is not None and not offline:
        progress(f"looking up {name}")
    files = _HUB_FILES if weights else [pattern for pattern in _HUB_FILES if pattern != "*.safetensors"]
    try:
        with quiet():
            return Path(
                snapshot_download(
                    name, local_files_only=offline, allow_patterns=files, ignore_patterns=["*/*"]
                )
            )
    except GatedRepoError:
        found, remedy = (
            "its owner asks you to accept terms first",
            "accept them on its page, then `hf auth login`",
        )
    except RepositoryNotFoundError:
        found, remedy = "the hub has no such model", "check the name, or name a folder"
    except Exception as error:  # of the hub's client, its HTTP library or the disk, by version
        if offline:
            found = "it is not on this machine, and --offline forbids to fetch it"
            remedy = f"fetch it once without --offline (`hf download {name}`), or name a folder"
        else:
            found = f"it cannot be fetched: {' '.join(str(error).split())}"
            remedy = "check the connection, or name a folder or a .gguf file"
    raise ModelError(Problem(where=name, found=found, remedy=remedy))


def load_model(
    source: ModelSource,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    attention: str = "sdpa",
) -> LoadedModel:
    """Load a base model: frozen, in evaluation mode, its weights mapped from the file and held once.

    Args:
        source: from `resolve_source`.
        dtype: of the weights.
        device: where the weights go; they get there tensor by tensor.
        attention: name of transformers' AttentionInterface.

    Raises:
        ModelError: a weight is missing, surplus or of another shape (all of them), or the tokenizer has ids
            that the model has no embedding for.
        MissingExtra: another device than the CPU needs `accelerate`.
    """
    # cuDNN's attention builds a plan for every new length, 0.3 s each: generation has one in every step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    tokenizer = load_tokenizer(source.tokenizer)
    shape = source.shape
    model, report = _from_pretrained(source, dtype, torch.device(device), attention)
    problems = _load_problems(report, source.name)
    most = max(tokenizer.get_vocab().values(), default=-1)
    if most >= shape.vocab_size:
        problems.append(
            Problem(
                where=source.name,
                found=f"the tokenizer has ids up to {most}, the model has {shape.vocab_size} embeddings",
                remedy="use the model's own tokenizer",
            )
        )
    if problems:
        raise ModelError(problems)
    model.requires_grad_(False)
    model.eval()
    return LoadedModel(
        model=model, tokenizer=tokenizer, shape=shape, name=source.name, fingerprint=source.fingerprint
    )


def empty_model(source: ModelSource) -> nn.Module:
    """The model's modules without their weights: enough to look up names in."""
    config = AutoConfig.from_pretrained(source.folder, local_files_only=True)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"), quiet():
        model: nn.Module = build(config)
    return model


def _from_pretrained(
    source: ModelSource, dtype: torch.dtype, device: torch.device, attention: str
) -> tuple[Any, dict[str, Any]]:
    """The model, and transformers' report of the weights that it passed over."""
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        with quiet():
            model, report = load(
                source.folder,
                dtype=dtype,
                attn_implementation=attention,
                device_map=None if device.type == "cpu" else {"": device},
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are in the report
                output_loading_info=True,
            )
    except ImportError as error:
        raise MissingExtra(
            Problem(where=source.name, found=str(error), remedy='pip install "tenbin[train]"')
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(
            Problem(where=source.name, found=f"it cannot be loaded: {error}", remedy="fetch the model again")
        ) from error
    return model, report


def _load_problems(report: dict[str, Any], where: str) -> list[Problem]:
    """What transformers would pass over: weights it would make up, leave out, or that do not fit."""
    remedy = "fetch the model again, or use another: its files do not belong together"
    found = {
        "missing_keys": "the weight is missing from the files",
        "unexpected_keys": "the model has no place for this weight",
        "mismatched_keys": "the weight's shape is not the model's",
    }
    return [
        Problem(where=where, field=str(key[0] if isinstance(key, tuple) else key), found=text, remedy=remedy)
        for kind, text in found.items()
        for key in sorted(report.get(kind, ()), key=str)
    ]
