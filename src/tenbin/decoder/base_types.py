"""How the frozen weights are held, by the name of their type, and how they get to their device."""

from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from tenbin.decoder.families import MakeFrozen
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.nf4 import Nf4Frozen
from tenbin.errors import MissingExtra, Problem
from tenbin.models.lora import linear_names
from tenbin.types import BaseType

NEEDED = {"nf4": "bitsandbytes"}
"""Packages, by the type that needs them."""


def missing_package(base: BaseType) -> str | None:
    """What a type of frozen weights needs and is not installed; nothing is loaded to find out."""
    package = NEEDED.get(base)
    return package if package is not None and find_spec(package) is None else None


def need_base_type(base: BaseType) -> None:
    """Refuse to go on without what holds frozen weights in this type.

    Raises:
        MissingExtra: with the line that installs it.
    """
    package = missing_package(base)
    if package is not None:
        raise MissingExtra(
            Problem(
                where="training.base_dtype",
                found=f"{base} needs {package}, which is not installed",
                remedy=f'pip install "tenbin[{base}]", or choose "fp8" or "same"',
            )
        )


def make_frozen(base: BaseType, device: torch.device | None = None) -> MakeFrozen:
    """What makes a frozen weight of (weight (N, K), bias) for a decoder.

    Args:
        device: where a weight in fewer bits goes before it is quantized, so that a model whose whole
            weights the device has no room for can wait in the computer's memory; None: it stays where it is.
    """
    if base == "same":
        return PlainFrozen
    pack = Nf4Frozen.make if base == "nf4" else partial(Fp8Frozen.make, keep_transposed=base == "fp8-both")

    def make(weight: Tensor, bias: Tensor | None) -> Fp8Frozen | Nf4Frozen:
        on = device or weight.device
        return pack(weight.to(on), None if bias is None else bias.to(on))

    return make


def move_rest(model: nn.Module, device: torch.device) -> None:
    """Everything of a model but the linear maps of its blocks, which go there packed, one by one.

    To be called before a decoder is made of it: the decoder holds on to the parameters that it finds.
    """
    packed = {
        id(p) for name in linear_names(model) for p in model.get_submodule(name).parameters(recurse=True)
    }
    moved: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in packed:
                continue
            if id(parameter) not in moved:
                moved[id(parameter)] = nn.Parameter(parameter.detach().to(device), requires_grad=False)
            setattr(module, name, moved[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))
