import copy
from functools import partial

import pytest
import torch
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from tenbin.config import LoraConfig
from tenbin.errors import ModelError
from tenbin.models.lora import (
    LoraLinear,
    activate,
    adapters,
    add_adapter,
    config_of,
    derive_seed,
    inject,
    linear_names,
    lora_layers,
    remove_adapter,
    set_micro_batch,
    trainable,
)

R4 = LoraConfig(rank=4, alpha=8.0)


def with_adapter(family="llama", name="a", *, dtype=torch.float32, config=R4, fill=True):
    model = tiny_model(family, dtype)
    inject(model)
    add_adapter(model, name, config, seed=3)
    if fill:
        fill_adapter(model, name)
    return model


def fill_adapter(model, name, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model, name).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def loss_of(model, ids):
    return model(ids, labels=ids).loss


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_changes_until_an_adapter_is_active_and_trained(family):
    ids = tiny_batch()
    plain = tiny_model(family)(ids).logits
    model = with_adapter(family, fill=False)
    assert torch.equal(model(ids).logits, plain)
    with activate(model, "a"):
        assert torch.allclose(model(ids).logits, plain, atol=1e-5)  # B is zero
    fill_adapter(model, "a")
    assert torch.equal(model(ids).logits, plain)
    with activate(model, "a"):
        assert not torch.allclose(model(ids).logits, plain, atol=1e-2)
    assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_every_linear_map_of_the_blocks_and_nothing_else(family):
    model = tiny_model(family)
    names = inject(model)
    per_block = 4 if family == "gpt2" else 7
    assert len(names) == per_block * model.config.num_hidden_layers == len(set(names))
    assert not any("head" in name or "wte" in name or "embed" in name for name in names)
    assert inject(model) == names == linear_names(model)  # again: nothing is wrapped twice
    assert not any(isinstance(layer.base, LoraLinear) for _, layer in lora_layers(model))


def test_targets_by_name():
    model = tiny_model("llama")
    assert inject(model, ["q_proj", "mlp.down_proj"]) == [
        f"model.layers.{i}.{n}" for i in range(2) for n in ("self_attn.q_proj", "mlp.down_proj")
    ]
    assert len(list(lora_layers(model))) == 4


def test_targets_that_name_nothing_are_all_said_and_nothing_is_changed():
    model = tiny_model("gpt2")
    with pytest.raises(ModelError) as caught:
        inject(model, ["q_proj", "c_attn", "lm_head", "_attn"])
    assert [p.found.split("'")[1] for p in caught.value.problems] == ["q_proj", "lm_head", "_attn"]
    assert "attn.c_attn" in caught.value.problems[0].remedy
    assert not list(lora_layers(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_adapter_learns(family):
    model = with_adapter(family)
    with activate(model, "a"):
        loss_of(model, tiny_batch()).backward()
    learned = {id(p) for p in trainable(model, "a").values()}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in learned), name
        assert (parameter.grad is not None and parameter.grad.any()) == (id(parameter) in learned), name


def test_the_gradient_is_that_of_the_written_out_formula():
    torch.manual_seed(0)
    base = nn.Linear(5, 7).double()
    layer = LoraLinear(base, "x")
    layer.add("a", LoraConfig(rank=3, alpha=6.0), 0)
    assert layer.lora_A["a"].dtype == torch.float64
    nn.init.normal_(layer.lora_B["a"])
    layer.active = "a"
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x), (x,))
    a, b = layer.lora_A["a"], layer.lora_B["a"]
    grads = torch.autograd.grad(layer(x).square().sum(), (x, a, b))
    written = torch.autograd.grad((base(x) + 2.0 * x @ a.T @ b.T).square().sum(), (x, a, b))
    for ours, theirs in zip(grads, written, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_start_values_depend_on_seed_and_place_only():
    whole, part = with_adapter(fill=False), tiny_model("llama")
    inject(part, ["v_proj"])
    add_adapter(part, "other name", R4, seed=3)
    key = "model.layers.1.self_attn.v_proj.lora_A.weight"
    a = trainable(whole, "a")
    assert torch.equal(a[key], trainable(part, "other name")[key])
    assert not torch.equal(a[key], a[key.replace("layers.1", "layers.0")])
    add_adapter(part, "b", R4, seed=4)
    assert not torch.equal(a[key], trainable(part, "b")[key])
    torch.manual_seed(99)
    add_adapter(part, "c", R4, seed=3)
    assert torch.equal(a[key], trainable(part, "c")[key])


def test_start_values_are_distributed_as_pefts():
    layer = LoraLinear(nn.Linear(400, 30), "x")
    layer.add("a", LoraConfig(rank=64, alpha=1.0), 0)
    reference = torch.empty(64, 400)
    nn.init.kaiming_uniform_(reference, a=5**0.5)
    a = layer.lora_A["a"]
    assert a.abs().max() <= 1 / 20
    assert a.std().item() == pytest.approx(reference.std().item(), rel=0.02)
    assert a.mean().item() == pytest.approx(0, abs=5e-4)
    assert not layer.lora_B["a"].any()


def test_derived_seeds_do_not_move():
    assert derive_seed(0, "a", "init") == 5994006019765784691


def test_adapters_live_side_by_side():
    model, ids = with_adapter(name="a"), tiny_batch()
    add_adapter(model, "b", LoraConfig(rank=2, alpha=2.0), seed=8)
    fill_adapter(model, "b", seed=6)
    assert adapters(model) == ["a", "b"]
    assert config_of(model, "b").rank == 2
    alone = with_adapter(name="a")
    activate(alone, "a")
    expected = alone(ids).logits
    with activate(model, "b"):
        assert not torch.allclose(model(ids).logits, expected, atol=1e-3)
        with activate(model, "a"):
            assert torch.equal(model(ids).logits, expected)
        with activate(model, None):
            assert torch.equal(model(ids).logits, tiny_model("llama")(ids).logits)
    remove_adapter(model, "b")
    assert adapters(model) == ["a"]
    assert not any(name.endswith((".lora_A.b", ".lora_B.b")) for name in model.state_dict())
    with activate(model, "a"):
        assert torch.equal(model(ids).logits, expected)


def test_an_adapter_may_be_on_some_modules_only():
    model = with_adapter()
    add_adapter(model, "b", R4, seed=0, modules=["model.layers.0.self_attn.q_proj"])
    assert list(trainable(model, "b")) == [
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.weight",
    ]
    with activate(model, "b"):
        active = [path for path, layer in lora_layers(model) if layer.active]
    assert active == ["model.layers.0.self_attn.q_proj"]


@pytest.mark.parametrize("name", ["a", "x.y", "", "values"])
def test_names_that_cannot_be(name):
    with pytest.raises(ModelError):
        add_adapter(with_adapter(), name, R4, seed=0)


def test_unknown_adapters_are_refused():
    model = with_adapter()
    for act in (activate, trainable, remove_adapter, config_of):
        with pytest.raises(ModelError, match="use one of: a"):
            act(model, "b")
    with pytest.raises(ModelError, match="inject first"):
        add_adapter(tiny_model("llama"), "a", R4, seed=0)


def test_bf16_base_keeps_fp32_masters_and_computes_in_bf16():
    model = with_adapter(dtype=torch.bfloat16)
    assert {p.dtype for p in trainable(model, "a").values()} == {torch.float32}
    seen = []
    layer = dict(lora_layers(model))["model.layers.0.self_attn.q_proj"]
    layer.register_forward_hook(lambda module, x, out: seen.append(out.dtype))
    with activate(model, "a"):
        loss_of(model, tiny_batch()).backward()
    assert seen == [torch.bfloat16]
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in trainable(model, "a").values())


def test_shapes_of_any_rank_go_through():
    layer = LoraLinear(nn.Linear(5, 7), "x")
    layer.add("a", R4, 0)
    nn.init.normal_(layer.lora_B["a"])
    layer.active = "a"
    x = torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        out = layer(x)
        assert out.shape == (2, 3, 4, 7)
        torch.testing.assert_close(layer(x[0, 0, 0]), out[0, 0, 0])
        torch.testing.assert_close(layer(x.transpose(0, 1)), out.transpose(0, 1))
        assert layer(x[:0]).shape == (0, 3, 4, 7)


def recomputing(blocks):
    """Let every block's forward run again in the backward."""
    for block in blocks:
        forward = block.forward
        block.forward = partial(checkpoint, forward, use_reentrant=False)


class TestDropout:
    config = LoraConfig(rank=4, alpha=8.0, dropout=0.5)

    def model(self):
        model = with_adapter(config=self.config).train()
        activate(model, "a")
        return model

    def test_masks_are_a_function_of_the_micro_batch(self):
        model, ids = self.model(), tiny_batch()
        set_micro_batch(model, 1)
        first = model(ids).logits
        torch.manual_seed(1234)
        assert torch.equal(model(ids).logits, first)
        set_micro_batch(model, 2)
        assert not torch.equal(model(ids).logits, first)
        set_micro_batch(model, 1)
        assert torch.equal(model(ids).logits, first)

    def test_none_in_evaluation(self):
        model, ids = self.model().eval(), tiny_batch()
        plain = with_adapter()
        activate(plain, "a")
        assert torch.equal(model(ids).logits, plain(ids).logits)

    def test_forgetting_the_micro_batch_is_loud(self):
        with pytest.raises(AssertionError, match="set_micro_batch"):
            self.model()(tiny_batch())

    def test_the_mean_is_kept_and_the_share_dropped(self):
        layer = LoraLinear(nn.Linear(1000, 3), "x")
        layer.add("a", LoraConfig(rank=2, alpha=2.0, dropout=0.25), 0)
        layer.micro_batch = 0
        dropped = layer._dropped(torch.ones(100, 1000), "a")
        assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
        assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
        assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)

    def test_recomputed_activations_drop_the_same_elements(self):
        gradients = []
        for recompute in (False, True):
            model = self.model()
            set_micro_batch(model, 7)
            if recompute:
                recomputing(model.model.layers)
            loss_of(model, tiny_batch()).backward()
            gradients.append([p.grad for p in trainable(model, "a").values()])
        for kept, again in zip(*gradients, strict=True):
            assert torch.equal(kept, again)


def test_the_base_is_shared_by_a_copy_of_the_wrapper_list_only():
    model = with_adapter()
    twin = copy.deepcopy(model)
    fill_adapter(twin, "a", seed=77)
    ids = tiny_batch()
    with activate(model, "a"), activate(twin, "a"):
        assert not torch.allclose(model(ids).logits, twin(ids).logits, atol=1e-3)
