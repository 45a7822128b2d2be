"""How frozen weights are held, by name; and what is said where a package is missing."""

import pytest
import torch
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.decoder import base_types
from tenbin.decoder.base_types import make_frozen, missing_package, move_rest, need_base_type
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.nf4 import Nf4Frozen
from tenbin.errors import MissingExtra
from tenbin.models.lora import inject


@pytest.mark.parametrize(
    ("base", "kind"), [("same", PlainFrozen), ("fp8", Fp8Frozen), ("fp8-both", Fp8Frozen), ("nf4", Nf4Frozen)]
)
def test_every_group_is_held_as_named(base, kind):
    model = tiny_model("llama")
    inject(model)
    decoder = Decoder(model, make_frozen(base, torch.device("cpu")))
    frozen = [group.frozen for block in decoder.blocks for group in block.groups]
    assert {type(one) for one in frozen} == {kind}
    if kind is Fp8Frozen:
        assert all((one.turned is not None) == (base == "fp8-both") for one in frozen)


@pytest.mark.parametrize("base", ["fp8", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_packed_follows_the_model_to_its_device(family, base):
    """A GPU gets a model packed, group by group, and the rest of it afterwards; `meta` stands for the GPU."""
    model = tiny_model(family)
    inject(model)
    move_rest(model, torch.device("meta"))
    decoder = Decoder(model, make_frozen(base, torch.device("cpu")))
    assert decoder.device.type == "meta"
    for block in decoder.blocks:
        norms = (block.attention_norm, block.mlp_norm, block.q_norm, block.after_mlp)
        there = [w for n in norms if n is not None for w in (n.weight, n.bias) if w is not None]
        assert {w.device.type for w in there} == {"meta"}
        assert {group.frozen.device.type for group in block.groups} == {"cpu"}
    left = [
        name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if not tensor.is_meta
    ]
    assert not left
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (family != "llama")


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    need_base_type("nf4")
    monkeypatch.setattr(base_types, "find_spec", lambda name: None)
    assert missing_package("nf4") == "bitsandbytes"
    assert missing_package("fp8") is None
    need_base_type("same")
    with pytest.raises(MissingExtra, match=r'nf4 needs bitsandbytes[^\n]*\n.*pip install "tenbin\[nf4\]"'):
        need_base_type("nf4")
