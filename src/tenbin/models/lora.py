"""LoRA: LoraLinear around a frozen nn.Linear or Conv1D, and what puts adapters in and switches them.

    names = inject(model, "all-linear")
    add_adapter(model, "lr=2e-4", LoraConfig(rank=16, alpha=32), seed=0)
    with activate(model, "lr=2e-4"):
        loss = model(...)

Source: Hu et al. 2021 (arXiv 2106.09685): h = W x + (alpha / rank) B A x, with W frozen.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tenbin.config import LoraConfig
from tenbin.errors import ModelError, Problem

ALL_LINEAR = "all-linear"


class LoraLinear(nn.Module):
    """A frozen linear map and any number of named adapters, at most one of them active.

    The adapters' weights are fp32 (or wider, where the base is) and are cast to the input's type in the
    forward; so with a bf16 base the low-rank product runs in bf16 on fp32 master weights.
    """

    def __init__(self, base: nn.Linear | Conv1D, name: str) -> None:
        super().__init__()
        self.base = base
        self.name = name
        """Path in the model: part of every seed."""
        self.lora_A = nn.ParameterDict()  # (R, in)
        self.lora_B = nn.ParameterDict()  # (out, R)
        self.configs: dict[str, LoraConfig] = {}
        self.seeds: dict[str, int] = {}
        self.active: str | None = None
        self.micro_batch: int | None = None
        base.requires_grad_(False)

    @property
    def weight(self) -> Tensor:
        """The frozen weight, as the base holds it: (out, in) in nn.Linear, (in, out) in Conv1D."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias (out,), or None."""
        return self.base.bias

    @property
    def transposed(self) -> bool:
        """The base holds its weight as (in, out): what PEFT calls fan_in_fan_out."""
        return isinstance(self.base, Conv1D)

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return int(self.weight.shape[0 if self.transposed else 1])

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return int(self.weight.shape[1 if self.transposed else 0])

    def scaling(self, name: str) -> float:
        """alpha / rank of one adapter."""
        return self.configs[name].alpha / self.configs[name].rank

    def add(self, name: str, config: LoraConfig, seed: int) -> None:
        """Make an adapter that starts as no change: A uniform as in PEFT (kaiming, a = sqrt(5)), B zero."""
        weight = self.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        # Drawn on the CPU from (seed, path): the same on every device and whatever else is injected.
        generator = torch.Generator().manual_seed(derive_seed(seed, self.name, "init"))
        bound = 1 / math.sqrt(self.in_features)  # = sqrt(6 / ((1 + 5) fan_in))
        a = torch.empty(config.rank, self.in_features, dtype=torch.float32)
        a.uniform_(-bound, bound, generator=generator)
        b = torch.zeros(self.out_features, config.rank, dtype=dtype, device=weight.device)
        self.lora_A[name] = nn.Parameter(a.to(device=weight.device, dtype=dtype))
        self.lora_B[name] = nn.Parameter(b)
        self.configs[name], self.seeds[name] = config, seed

    def remove(self, name: str) -> None:
        """Forget an adapter."""
        if name in self.configs:
            for table in (self.lora_A, self.lora_B, self.configs, self.seeds):
                del table[name]
        if self.active == name:
            self.active = None

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        """The base's output, plus the active adapter's."""
        name = self.active
        if name is None:
            return self.base(x)  # type: ignore[no-any-return]
        flat = x.reshape(-1, x.shape[-1])  # (N, in)
        low = linear(self._dropped(flat, name), self.lora_A[name].to(x.dtype))  # (N, R)
        b = self.lora_B[name].to(x.dtype)
        if isinstance(
            self.base, Conv1D
        ):  # its own forward returns a view, which cannot be added to for nothing
            out = torch.addmm(self.base.bias, flat, self.base.weight)
        else:
            out = self.base(flat)
        # In place: the output of a linear map is saved by nobody, so nothing is copied.
        out.addmm_(low, b.t(), alpha=self.scaling(name))
        return out.view(*x.shape[:-1], out.shape[-1])

    def _dropped(self, flat: Tensor, name: str) -> Tensor:
        if not self.training or self.configs[name].dropout == 0:
            return flat
        assert self.micro_batch is not None, "dropout needs set_micro_batch before each forward"
        return flat * self.dropout_mask(name, self.micro_batch, flat)

    def dropout_mask(self, name: str, number: int, like: Tensor) -> Tensor:
        """0 or 1 / (1 - dropout) for each element of `like`: a function of (seed, path, number) alone."""
        dropout = self.configs[name].dropout
        seed = derive_seed(self.seeds[name], self.name, f"dropout {number}")
        generator = torch.Generator(device=like.device).manual_seed(seed)
        keep = torch.empty_like(like).bernoulli_(1 - dropout, generator=generator)
        return keep.div_(1 - dropout)

    @torch.no_grad()
    def merged_weight(self, name: str) -> Tensor:
        """W + scaling B A in the base's layout and type, computed in fp32 or wider and rounded once."""
        a, b = self.lora_A[name], self.lora_B[name]
        delta = torch.mm(b, a).mul_(self.scaling(name))  # (out, in)
        weight = self.weight.to(a.dtype)
        return (weight + (delta.t() if self.transposed else delta)).to(self.weight.dtype)


def derive_seed(seed: int, *names: str) -> int:
    """A seed of 63 bits out of a seed and names, by SHA-256: no order, no collision to speak of."""
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """(path, layer) of every wrapped linear map, in the model's order."""
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield path, module


def linear_names(model: nn.Module) -> list[str]:
    """Paths of every linear map of the decoder blocks (wrapped or not), in the model's order."""
    blocks = _block_prefix(model)
    return [
        path
        for path, module in model.named_modules()
        if path.startswith(blocks)
        and isinstance(module, nn.Linear | Conv1D | LoraLinear)
        and not path.endswith(".base")
    ]


def inject(model: nn.Module, targets: str | Sequence[str] = ALL_LINEAR) -> list[str]:
    """Wrap linear maps so that they can hold adapters; what is wrapped already stays.

    Args:
        model: a decoder of transformers. Its weights are frozen, all of them.
        targets: "all-linear" (every linear map of the decoder blocks, never the output head or an embedding),
            or names: `q_proj` or `mlp.c_proj` means every linear map of the blocks whose path ends so.

    Returns:
        paths of the linear maps that the targets name, in the model's order.

    Raises:
        ModelError: for every target that names nothing, with the names that there are.
    """
    model.requires_grad_(False)
    for _, layer in lora_layers(model):
        for parameter in (*layer.lora_A.values(), *layer.lora_B.values()):
            parameter.requires_grad_(True)
    names = linear_names(model)
    wanted = [targets] if isinstance(targets, str) else list(targets)
    if wanted == [ALL_LINEAR]:
        chosen = names
    else:
        problems = [
            Problem(
                where="lora.targets",
                found=f"{target!r} names no linear map of this model's blocks",
                remedy=f'use "all-linear" or some of: {", ".join(dict.fromkeys(_short(n) for n in names))}',
            )
            for target in wanted
            if not any(matches(name, target) for name in names)
        ]
        if problems:
            raise ModelError(problems)
        chosen = [name for name in names if any(matches(name, target) for target in wanted)]
    for name in chosen:
        module = model.get_submodule(name)
        if not isinstance(module, LoraLinear):
            assert isinstance(module, nn.Linear | Conv1D)
            layer = LoraLinear(module, name)
            layer.train(module.training)
            model.set_submodule(name, layer)
    return chosen


def matches(name: str, target: str) -> bool:
    """Whether a target means this path: the whole of it, or its end after a dot (PEFT's rule)."""
    return name == target or name.endswith(f".{target}")


def add_adapter(
    model: nn.Module, name: str, config: LoraConfig, seed: int, *, modules: Sequence[str] | None = None
) -> None:
    """Make a new adapter on the wrapped linear maps; it starts as no change, and is not active.

    Args:
        model: with linear maps wrapped by `inject`.
        name: of the adapter, without dots: `lr=2e-4`.
        config: rank, alpha, dropout. Its targets are not looked at: `inject` did that.
        seed: of the start values and of dropout. Each linear map draws from (seed, its path), so an adapter
            starts alike whatever else the model holds.
        modules: paths, as `inject` returned them; None = every wrapped linear map.

    Raises:
        ModelError: there is an adapter of that name, or nothing is wrapped.
    """
    layers = dict(lora_layers(model))
    found, remedy = None, "use another name"
    if not layers:
        found, remedy = "the model has no linear map that can hold an adapter", "inject first"
    elif name in adapters(model):
        found = "there is an adapter of that name already"
    elif "." in name or not name or hasattr(nn.ParameterDict, name):
        found = "the name is empty, has a dot in it or means something else"
    if found is not None:
        raise ModelError(Problem(where=f"adapter {name!r}", found=found, remedy=remedy))
    for path in layers if modules is None else modules:
        layers[path].add(name, config, seed)


def adapters(model: nn.Module) -> list[str]:
    """Names of the adapters that the model holds, in the order they came."""
    return list(dict.fromkeys(name for _, layer in lora_layers(model) for name in layer.configs))


class Activation:
    """What `activate` did: as a context manager it is undone at the end."""

    def __init__(self, before: list[tuple[LoraLinear, str | None]]) -> None:
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        for layer, name in self._before:
            layer.active = name if name in layer.configs else None


def activate(model: nn.Module, name: str | None) -> Activation:
    """Let one adapter take part from now on, or none; in a `with` only until its end.

    Raises:
        ModelError: the model holds no adapter of that name.
    """
    layers = [layer for _, layer in lora_layers(model)]
    if name is not None:
        need_adapter(model, name)
    before = [(layer, layer.active) for layer in layers]
    for layer in layers:
        layer.active = name if name in layer.configs else None
    return Activation(before)


def set_micro_batch(model: nn.Module, index: int) -> None:
    """Choose the dropout masks of the next forward; count up once a micro-batch, in all steps of the run."""
    for _, layer in lora_layers(model):
        layer.micro_batch = index


def trainable(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The adapter's weights by PEFT's names: `<path>.lora_A.weight` (R, in) and `lora_B` (out, R)."""
    need_adapter(model, name)
    found: dict[str, nn.Parameter] = {}
    for path, layer in lora_layers(model):
        if name in layer.configs:
            found[f"{path}.lora_A.weight"] = layer.lora_A[name]
            found[f"{path}.lora_B.weight"] = layer.lora_B[name]
    return found


def config_of(model: nn.Module, name: str) -> LoraConfig:
    """Rank, alpha and dropout of an adapter."""
    need_adapter(model, name)
    return next(layer.configs[name] for _, layer in lora_layers(model) if name in layer.configs)


def remove_adapter(model: nn.Module, name: str) -> None:
    """Forget one adapter; the linear maps stay wrapped."""
    need_adapter(model, name)
    for _, layer in lora_layers(model):
        layer.remove(name)


def need_adapter(model: nn.Module, name: str) -> None:
    """Refuse to go on without an adapter.

    Raises:
        ModelError: the model holds none of that name.
    """
    names = adapters(model)
    if name not in names:
        raise ModelError(
            Problem(
                where=f"adapter {name!r}",
                found="the model holds no adapter of that name",
                remedy=f"use one of: {', '.join(names)}" if names else "add or read an adapter first",
            )
        )


def _block_prefix(model: nn.Module) -> str:
    """`model.layers.`: what the paths of everything in the decoder blocks begin with."""
    num_layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return f"{path}."
    raise ModelError(
        Problem(
            where=type(model).__name__,
            found="no list of decoder blocks is in it",
            remedy="use a causal language model of a supported family",
        )
    )


def _short(name: str) -> str:
    """`self_attn.q_proj` of `model.layers.0.self_attn.q_proj`."""
    return ".".join(name.split(".")[-2:])
