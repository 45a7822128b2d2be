"""Weights in 4 bits on a GPU: the same weight as on the CPU, its products, and the memory that is held."""

import gc

import pytest
import torch
from tests.decoder.exact import packed
from tests.gpu.test_decoder_gpu import examples, jobs_of, off, passed, segments, some_model, with_adapters
from tests.models.tiny import FAMILIES

from tenbin.decoder.base_types import make_frozen, missing_package, move_rest
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.nf4 import Nf4Frozen
from tenbin.memory import BASE_BYTES
from tenbin.models.lora import inject, lora_layers
from tenbin.train.room import Room
from tenbin.train.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.skipif(missing_package("nf4") is not None, reason="no bitsandbytes here"),
]
DEVICE = torch.device("cuda")


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def test_the_weight_is_that_of_the_cpu():
    """But where a rounding of scales falls the other way."""
    weight = rand(512, 1024)
    here, there = Nf4Frozen.make(weight, None), Nf4Frozen.make(weight.to(DEVICE), None)
    error = (there.plain().cpu().float() - here.plain().float()).norm() / weight.float().norm()
    assert error < 0.01
    assert torch.equal(there.rows(64, 192).plain(), there.plain()[64:192])


def test_both_products_are_those_of_the_dequantized_weight():
    frozen = Nf4Frozen.make(rand(512, 1024).to(DEVICE), rand(512, seed=1).to(DEVICE))
    held = frozen.plain().float()
    x, grad = rand(300, 1024, seed=2).to(DEVICE), rand(300, 512, seed=3).to(DEVICE)
    y, dx = x.float() @ held.t() + frozen.bias.float(), grad.float() @ held
    assert (frozen.forward(x).float() - y).norm() < 0.01 * y.norm()
    assert (frozen.backward(grad).float() - dx).norm() < 0.01 * dx.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_dequantized_model(family):
    model = with_adapters(some_model(family), "a").to(DEVICE)
    decoder = Decoder(model, make_frozen("nf4"))
    plain = with_adapters(some_model(family), "a").to(DEVICE)
    for (_, ours), (_, theirs) in zip(lora_layers(model), lora_layers(plain), strict=True):
        theirs.base.weight.data.copy_(ours.base.weight.t() if theirs.transposed else ours.base.weight)
    losses, found = passed(model, decoder, segments(), "a")
    expected, gradient = passed(plain, Decoder(plain), segments(), "a")
    assert torch.allclose(losses, expected, rtol=1e-2, atol=1e-2)
    assert off(found, gradient) < 0.02


def test_a_model_gets_there_packed_and_trains():
    """Loaded on the CPU, packed group by group: the GPU never holds the whole weights."""
    sizes = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 4, "vocab_size": 1009}
    model = some_model("llama", **sizes, num_attention_heads=16, num_key_value_heads=16)
    inject(model)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    linear = sum(layer.weight.numel() for _, layer in lora_layers(model))
    move_rest(model, DEVICE)
    decoder = Decoder(model, make_frozen("nf4", DEVICE))
    assert all(p.is_cuda for p in model.parameters())
    held = torch.cuda.memory_allocated() - before
    rest = sum(p.numel() * p.element_size() for p in model.parameters())
    assert held == pytest.approx(linear * BASE_BYTES["nf4"] + rest, rel=0.05)
    whole = 2 * linear
    assert torch.cuda.max_memory_allocated() - before < 0.75 * whole
    with_adapters(model, "a")
    (job,) = jobs_of(model, "a", batch_size=4)
    losses = [train_step(decoder, [job], examples(8, 40, 20), Room(1000))[0].loss for _ in range(4)]
    assert losses[-1] < losses[0]
    ids = torch.ones(1, 8, dtype=torch.int64, device=DEVICE)
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 2, "do_sample": False}
    assert model.generate(ids, **asked).shape == (1, 10)
    assert torch.isfinite(decoder.losses(packed([torch.arange(3, 30)]).to(DEVICE))).all()
