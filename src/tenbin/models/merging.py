"""Merging: an adapter becomes part of the weights, and the model a plain one again."""

from torch import nn
from transformers.pytorch_utils import Conv1D

from tenbin.errors import ModelError, Problem
from tenbin.models.lora import lora_layers, need_adapter


def merge(model: nn.Module, name: str) -> None:
    """Add one adapter to the base weights for good, and unwrap every linear map: a plain model again.

    Other adapters that the model holds are lost, since they belong to the weights as they were.

    Raises:
        ModelError: there is no adapter of that name, or weights are held in fewer bits; nothing changes.
    """
    need_adapter(model, name)
    packed = [path for path, layer in lora_layers(model) if not isinstance(layer.base, nn.Linear | Conv1D)]
    if packed:
        found = f"{len(packed)} linear maps hold their weights in fewer bits: nothing can be added to them"
        remedy = (
            'load the model anew with training.base_dtype = "same", read the adapter into it, and merge there'
        )
        raise ModelError(Problem(where=f"adapter {name!r}", found=found, remedy=remedy))
    for path, layer in list(lora_layers(model)):
        if name in layer.configs:
            layer.weight.data.copy_(layer.merged_weight(name))
        model.set_submodule(path, layer.base)
