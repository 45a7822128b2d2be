"""A merged model answers as with its adapter; weights in fewer bits are refused."""

import pytest
import torch
from tests.models.test_lora import with_adapter
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model

from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.errors import ModelError
from tenbin.models.lora import activate, adapters
from tenbin.models.merging import merge


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_merged_equals_adapter(family, dtype, tolerance):
    model, ids = with_adapter(family, dtype=dtype), tiny_batch()
    with activate(model, "a"):
        expected = model(ids).logits
    keys = set(tiny_model(family).state_dict())
    merge(model, "a")
    assert set(model.state_dict()) == keys  # a plain model again
    torch.testing.assert_close(model(ids).logits, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("base", ["fp8", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_fewer_bits_are_not_merged_into(family, base):
    """They are made anew for every product, so what is added to them would be lost in silence."""
    model = with_adapter(family)
    Decoder(model, make_frozen(base))
    with activate(model, "a"):
        expected = model(tiny_batch()).logits
    with pytest.raises(ModelError, match=r'hold their weights in fewer bits[^\n]*\n.*base_dtype = "same"'):
        merge(model, "a")
    assert adapters(model) == ["a"]
    with activate(model, "a"):
        assert torch.equal(model(tiny_batch()).logits, expected)


def test_an_unknown_adapter_is_refused():
    with pytest.raises(ModelError, match="use one of: a"):
        merge(with_adapter(), "b")
