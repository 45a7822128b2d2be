"""From a model of transformers to blocks: what is refused, and that no weight is held twice."""

import pytest
import torch
from tests.decoder.exact import OTHERS, clear, other_model, packed, sequences, with_adapters
from tests.models.tiny import CONFIGS, FAMILIES, tiny_batch, tiny_model
from transformers import AutoConfig

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.families import refuse
from tenbin.errors import ModelError
from tenbin.models.lora import inject

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "factor": 2.0,
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 32,
}
REFUSED = [
    ("llama", {"hidden_act": "relu"}, ["hidden_act"]),
    ("gpt2", {"activation_function": "gelu"}, ["hidden_act"]),
    ("gemma3_text", {"hidden_activation": "relu"}, ["hidden_act"]),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, ["attn_logit_softcapping"]),
    ("gemma3_text", {"final_logit_softcapping": 30.0}, ["final_logit_softcapping"]),
    ("gemma3_text", {"use_bidirectional_attention": True}, ["use_bidirectional_attention"]),
    ("gpt2", {"scale_attn_weights": False}, ["scale_attn_weights"]),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx"]),
    ("llama", {"rope_parameters": DYNAMIC}, ["rope_parameters"]),
    ("llama", {"rope_parameters": LONG}, ["rope_parameters"]),
    (  # all problems at once
        "gpt2",
        {"activation_function": "relu", "scale_attn_weights": False},
        ["hidden_act", "scale_attn_weights"],
    ),
]


@pytest.mark.parametrize(("family", "changes", "keys"), REFUSED)
def test_what_would_be_computed_wrongly_is_refused(family, changes, keys):
    config = AutoConfig.for_model(family, **(CONFIGS[family] | changes))
    with pytest.raises(ModelError) as caught:
        refuse(config)
    assert [problem.field for problem in caught.value.problems] == keys
    assert all(problem.remedy for problem in caught.value.problems)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refused_model_becomes_no_decoder(family):
    model = tiny_model(family)
    model.config.attn_logit_softcapping = 50.0
    with pytest.raises(ModelError, match="capped"):
        Decoder(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_usual_is_not_refused(family):
    refuse(AutoConfig.for_model(family, **CONFIGS[family]))


def test_rotations_that_depend_on_nothing_else_are_not_refused():
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    refuse(AutoConfig.for_model("llama", **CONFIGS["llama"], rope_parameters=scaled))


def storages(tensors):
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def frozen_weights(decoder):
    return [group.frozen.weight for block in decoder.blocks for group in block.groups]


MODELS = [*FAMILIES, *(f"other {kind}" for kind in OTHERS)]


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("family", MODELS)
def test_nothing_is_held_twice(family, adapted):
    """The model's modules are views of the decoder's weights, also when two decoders are made of it."""
    model = other_model(family[6:]) if family.startswith("other") else tiny_model(family)
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    logits = model(tiny_batch()).logits
    if adapted:
        inject(model)
    first = Decoder(model)
    held = storages([*model.parameters(), *frozen_weights(first)])
    assert sum(held.values()) == needed
    second = Decoder(model)
    assert storages([*model.parameters(), *frozen_weights(first), *frozen_weights(second)]) == held
    for one, other in zip(frozen_weights(first), frozen_weights(second), strict=True):
        assert one.data_ptr() == other.data_ptr()
        assert one.stride() == other.stride()
    assert torch.allclose(model(tiny_batch()).logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_decoders_of_one_model_give_the_same(family):
    model = with_adapters(tiny_model(family, torch.float64), "a", "b")
    batch = packed(sequences())
    first, second = Decoder(model), Decoder(model)
    first.use(("a",))
    second.use(("b",))
    one = first.losses(batch)
    assert not torch.equal(one, second.losses(batch))
    second.use(("a",))
    assert torch.equal(one, second.losses(batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_leaves_the_frozen_weights_and_the_batch_as_they_are(family):
    model = with_adapters(tiny_model(family), "a")
    decoder, batch = Decoder(model), packed(sequences())
    decoder.use(("a",))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = [t.clone() for t in (batch.input_ids, batch.position_ids, batch.predicts, batch.labels)]
    scales = torch.rand(batch.num_targets, generator=torch.Generator().manual_seed(0))
    factors = scales.clone()
    decoder.losses(batch, scales=scales)
    decoder.give_gradients()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert (p.grad is not None) == ("lora" in name), name
    now = (batch.input_ids, batch.position_ids, batch.predicts, batch.labels)
    assert all(torch.equal(a, b) for a, b in zip(given, now, strict=True))
    assert torch.equal(scales, factors)
    clear(model, "a")


def test_gradients_add_up_over_passes_and_are_forgotten_when_told():
    model = with_adapters(tiny_model("llama", torch.float64), "a")
    decoder, texts = Decoder(model), sequences()
    decoder.use(("a",))

    def gradient(*parts, forget=None):
        for i, part in enumerate(parts):
            batch = packed(part)
            decoder.losses(batch, scales=torch.ones(batch.num_targets, dtype=torch.float64))
            if i == forget:
                decoder.forget_gradients()
        decoder.give_gradients()
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        clear(model, "a")
        return found

    whole, parts = gradient(texts), gradient(texts[:2], texts[2:])
    last = gradient(texts[2:])
    forgotten = gradient(texts[:2], texts[2:], forget=0)
    for name, value in whole.items():
        assert torch.allclose(parts[name], value, rtol=1e-9, atol=1e-11), name
        assert torch.equal(forgotten[name], last[name]), name
    decoder.give_gradients()  # what was given is not given again
    assert not any(p.grad is not None for p in model.parameters())


def test_adapters_change_between_passes():
    """`refresh` takes the master weights as they are now; without it the copies stay."""
    model = with_adapters(tiny_model("llama"), "a")
    decoder, batch = Decoder(model), packed(sequences())
    decoder.use(("a",))
    before = decoder.losses(batch)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.mul_(2)
    assert torch.equal(decoder.losses(batch), before)
    decoder.refresh()
    assert not torch.equal(decoder.losses(batch), before)
