"""Weights in 8 bits: how near they are, both products, the module, and a model that generates with them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.exact import packed, sequences, with_adapters
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PackedLinear
from tenbin.decoder.linear import Routing
from tenbin.decoder.pointwise import E4M3, quantized, transposed
from tenbin.models.lora import activate

EPS = 2**-4
"""e4m3 has 3 bits after the point: rounding to the nearest is off by at most 1/16 of the value."""
LEAST = 2**-10 / 448
"""Of a row's largest value: half of the smallest step below e4m3's normal numbers."""


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(st.integers(0, 999), st.integers(-30, 30))
def test_every_element_is_within_a_sixteenth(seed, power):
    weight = rand(7, 33, seed=seed) * 2.0**power
    weight *= torch.logspace(-3, 3, 33)  # within a row, too
    frozen = Fp8Frozen.make(weight, None)
    error = (frozen.weight.float() * frozen.row_scale[:, None] - weight).abs()
    largest = weight.abs().amax(dim=1, keepdim=True)
    assert (error <= torch.maximum(EPS * weight.abs(), LEAST * largest) * (1 + 1e-5)).all()


def test_the_largest_of_a_row_is_held_as_it_is():
    weight = rand(5, 64)
    frozen = Fp8Frozen.make(weight, None)
    place = weight.abs().argmax(dim=1, keepdim=True)
    assert torch.allclose(frozen.plain().gather(1, place), weight.gather(1, place), rtol=1e-6)


def test_rows_of_zeros_stay_zeros():
    weight = torch.zeros(3, 8)
    weight[1] = 1.0
    assert torch.equal(Fp8Frozen.make(weight, None).plain(), weight)


def test_quantized_in_parts_is_quantized_whole(monkeypatch):
    weight = rand(11, 16)
    whole = Fp8Frozen.make(weight, None)
    monkeypatch.setattr("tenbin.decoder.fp8._ROWS", 4)
    parts = Fp8Frozen.make(weight, None)
    assert torch.equal(whole.weight.view(torch.uint8), parts.weight.view(torch.uint8))
    assert torch.equal(whole.row_scale, parts.row_scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_both_products_against_the_dequantized_weight(dtype, bias):
    """What is rounded besides is the input, by a sixteenth an element: far less over a sum."""
    weight, x = rand(48, 64, dtype=dtype), rand(9, 64, seed=1, dtype=dtype)
    grad = rand(9, 48, seed=2, dtype=dtype)
    b = rand(48, seed=3, dtype=dtype) if bias else None
    frozen = Fp8Frozen.make(weight, b)
    held = frozen.weight.float() * frozen.row_scale[:, None]
    y, dx = frozen.forward(x), frozen.backward(grad)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    rounded, scale = quantized(x)
    exact = (rounded.float() * scale) @ held.t() + (0 if b is None else b.float())
    assert torch.allclose(y.float(), exact, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)
    expected = x.float() @ held.t() + (0 if b is None else b.float())
    assert (y.float() - expected).norm() < 0.04 * expected.norm()
    expected = grad.float() @ held
    assert (dx.float() - expected).norm() < 0.04 * expected.norm()


def test_the_weights_scale_is_folded_into_the_gradient():
    """Rows of very different sizes: a gradient quantized before it is scaled would lose the small ones."""
    weight = rand(6, 32) * torch.logspace(-4, 4, 6)[:, None]
    frozen = Fp8Frozen.make(weight, None)
    grad = rand(5, 6, seed=1) / torch.logspace(-4, 4, 6)
    expected = grad @ (frozen.weight.float() * frozen.row_scale[:, None])
    assert (frozen.backward(grad) - expected).norm() < 0.05 * expected.norm()


def test_the_transposed_copy_is_the_same_weight():
    weight = rand(6, 10)
    frozen = Fp8Frozen.make(weight, None, keep_transposed=True)
    assert frozen.turned.shape == (10, 6)
    assert frozen.turned.is_contiguous()
    assert torch.equal(frozen.turned.float(), frozen.weight.float().t())
    assert torch.equal(transposed(frozen.turned).float(), frozen.weight.float())
    assert Fp8Frozen.make(weight, None).turned is None


def test_rows_alone_are_views():
    frozen = Fp8Frozen.make(rand(10, 8), rand(10, seed=1))
    part = frozen.rows(3, 7)
    assert part.weight.untyped_storage().data_ptr() == frozen.weight.untyped_storage().data_ptr()
    x = rand(4, 8, seed=2)
    assert torch.allclose(part.forward(x), frozen.forward(x)[:, 3:7], rtol=1e-6)


def test_as_a_module():
    weight, bias = rand(12, 16), rand(12, seed=1)
    module = PackedLinear(Fp8Frozen.make(weight, bias))
    assert (module.in_features, module.out_features) == (16, 12)
    assert module.weight.shape == (12, 16)
    assert not list(module.parameters())  # nothing to train
    x = rand(2, 5, 16, seed=2)
    y = module(x)
    assert y.shape == (2, 5, 12)
    assert torch.equal(y[1], module.frozen.forward(x[1]))


def quantizing(weight, bias):
    return Fp8Frozen.make(weight, bias)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_of_transformers_generates_with_the_same_weights(family):
    """As a model whose weights are the dequantized ones, apart from the rounding of inputs."""
    torch.manual_seed(0)
    model = with_adapters(tiny_model(family), "a")
    before = model(tiny_batch()).logits
    decoder = Decoder(model, quantizing)
    kinds = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, PackedLinear)}
    assert kinds == {"base"}  # every wrapped map, and no other
    held = [m.frozen.weight for m in model.modules() if isinstance(m, PackedLinear)]
    assert all(w.dtype == E4M3 for w in held)
    own = {g.frozen.weight.untyped_storage().data_ptr() for b in decoder.blocks for g in b.groups}
    assert {w.untyped_storage().data_ptr() for w in held} == own  # one copy
    after = model(tiny_batch()).logits
    assert not torch.equal(after, before)
    assert (after - before).norm() < 0.3 * before.norm()
    with activate(model, "a"):
        whole = torch.ones(3, 11, dtype=torch.int64)
        ids = model.generate(tiny_batch(), attention_mask=whole, max_new_tokens=4, do_sample=False)
    assert ids.shape[0] == 3
    assert ids.shape[1] > 11
    texts = sequences((11, 6))
    with activate(model, "a"), torch.no_grad():
        logits = torch.cat([model(t[None]).logits[0, :-1] for t in texts])
    targets = torch.cat([t[1:] for t in texts])
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    decoder.use(("a",))
    assert torch.allclose(decoder.losses(packed(texts)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_without_adapters_too(family):
    model = tiny_model(family)
    decoder = Decoder(model, quantizing)
    assert any(isinstance(m, PackedLinear) for m in model.modules())
    text = sequences((11,))[0]
    with torch.no_grad():
        logits = model(text[None]).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, text[1:], reduction="none")
    assert torch.allclose(decoder.losses(packed([text])), expected, rtol=1e-3, atol=1e-3)


def test_the_other_order_is_kept_while_it_is_wanted():
    decoder = Decoder(tiny_model("llama", torch.float32), Fp8Frozen.make)
    weights = [group.frozen for block in decoder.blocks for group in block.groups]
    assert all(frozen.turned is None for frozen in weights)
    decoder.turn(keep=True)
    for frozen, group in zip(weights, [g for b in decoder.blocks for g in b.groups], strict=True):
        assert torch.equal(group.frozen.turned.view(torch.uint8), frozen.weight.view(torch.uint8).t())
        assert group.frozen.weight is frozen.weight
    decoder.turn(keep=False)
    assert all(group.frozen.turned is None for block in decoder.blocks for group in block.groups)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_norms_own_rows_in_8_bits_are_those_of_its_output(family):
    decoder = Decoder(with_adapters(tiny_model(family), "a"), Fp8Frozen.make)
    decoder.use(("a",))
    block, x = decoder.blocks[0], rand(7, 32)
    routing = Routing(("a",), ((0, 7),))
    for norm, group in ((block.attention_norm, block.qkv), (block.mlp_norm, block.up)):
        found, expected = group.forward_normed(norm, x, routing), group.forward(norm.forward(x), routing)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
