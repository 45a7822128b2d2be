"""Tiny models without rounding, with adapters, and texts packed in a row."""

import itertools
from functools import partial

import torch
from tests.models.tiny import CONFIGS, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.config import LoraConfig
from tenbin.decoder.layout import Layout
from tenbin.decoder.pack import PackedBatch
from tenbin.models.lora import add_adapter, inject, trainable

OTHERS = {
    "mistral": CONFIGS["llama"] | {"sliding_window": 6, "head_dim": 8},
    "qwen2": CONFIGS["llama"],
    "qwen3": CONFIGS["llama"] | {"head_dim": 16},
    "llama": CONFIGS["llama"] | {"attention_bias": True, "mlp_bias": True},
}
LENGTHS = (11, 3, 17, 1, 20)  # some longer than Gemma's window of 8


def other_model(kind, dtype=torch.float64):
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **OTHERS[kind], **ids), dtype=dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return exact_norms(model.eval())


def exact_norms(model):
    """transformers computes RMSNorm in float32 even in a float64 model: here it does not."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            gemma = type(module).__name__.startswith("Gemma")
            weight = 1 + module.weight if gemma else module.weight
            eps = module.eps if gemma else module.variance_epsilon
            module.forward = partial(_norm, weight=weight, eps=eps)
    return model


def _norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def exact_model(family):
    return exact_norms(tiny_model(family, torch.float64))


def with_adapters(model, *names, dropout=0.0, ranks=(4, 3, 2, 5), targets="all-linear"):
    modules = inject(model, targets)
    for i, name in enumerate(names):
        config = LoraConfig(rank=ranks[i], alpha=4 + i, dropout=dropout)
        add_adapter(model, name, config, seed=i, modules=modules)
        generator = torch.Generator().manual_seed(i)
        for p in trainable(model, name).values():
            torch.nn.init.normal_(p, std=0.1, generator=generator)
    return model


def sequences(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 97, (n,), generator=generator) for n in lengths]


def packed(texts):
    """All tokens but each text's first are targets."""
    offsets = (0, *itertools.accumulate(len(t) for t in texts))
    layout = Layout(offsets)
    predicts = [i for a, b in itertools.pairwise(offsets) for i in range(a, b - 1)]
    ids = torch.cat(texts)
    predicts = torch.tensor(predicts, dtype=torch.int64)
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, predicts, ids[predicts + 1])


def gradients(model, name):
    return {key: p.grad.clone() for key, p in trainable(model, name).items() if p.grad is not None}


def clear(model, *names):
    for name in names:
        for p in trainable(model, name).values():
            p.grad = None
