"""A pack's segments do not see each other, and each sees what it would see alone."""

import pytest
import torch
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model

from tenbin.models import attention
from tenbin.models.attention import Segments


def hidden(model, ids, **kwargs):
    return model.base_model(input_ids=ids, use_cache=False, **kwargs).last_hidden_state


def tenbin_model(family, dtype=torch.float64):
    model = tiny_model(family, dtype)
    model.set_attn_implementation(attention.register())
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_unpacked(family):
    lengths = (11, 3, 17, 1)  # longer than Gemma's sliding window of 8
    texts = [tiny_batch(seed=i, rows=1, tokens=n) for i, n in enumerate(lengths)]
    alone = tiny_model(family, torch.float64)
    expected = torch.cat([hidden(alone, ids) for ids in texts], dim=1)
    offsets = tuple(sum(lengths[:i]) for i in range(len(lengths) + 1))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = hidden(
        tenbin_model(family),
        torch.cat(texts, dim=1),
        position_ids=positions,
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool),
        segments=Segments(offsets),
    )
    assert torch.allclose(packed, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_segments_it_is_sdpa_with_the_models_own_mask(family):
    ids = tiny_batch()
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ours = hidden(tenbin_model(family), ids, attention_mask=mask, position_ids=positions)
    theirs = hidden(tiny_model(family, torch.float64), ids, attention_mask=mask, position_ids=positions)
    assert torch.allclose(ours[mask.bool()], theirs[mask.bool()], rtol=0, atol=1e-12)
