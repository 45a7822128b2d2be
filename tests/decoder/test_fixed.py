"""FixedRow: a row lengthened to one of few shapes has the same losses and gradients."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.exact import clear, exact_model, gradients, packed, sequences, with_adapters
from tests.decoder.rows import LAYOUTS

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import (
    CUDNN_FROM,
    CUDNN_STEP,
    LEAST_RUNS,
    FixedRow,
    in_cudnn_steps,
    lengthened,
    power,
    rounded,
    rounded_targets,
)
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join


def of_layout(layout, seed=0):
    ids = torch.randint(3, 97, (layout.num_tokens,), generator=torch.Generator().manual_seed(seed))
    first = len(layout.branches)
    spans = list(itertools.pairwise(layout.offsets))[first:]
    predicts = torch.tensor([i for a, b in spans for i in range(a, b - 1)], dtype=torch.int64)
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, predicts, ids[predicts + 1])


def passed(decoder, model, batch, routing, scales, *names):
    decoder.use(names)
    losses = decoder.losses(batch, routing, scales=scales)
    decoder.give_gradients()
    found = [gradients(model, name) for name in names]
    clear(model, *names)
    return losses, *found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("branches", [(), (2, 1)])
def test_the_fixed_row_gives_the_same(family, branches):
    """Of two adapters whose tokens stand in turn, told by owners as a CUDA graph is."""
    names = ("a", "b")
    model = with_adapters(exact_model(family), *names)
    decoder = Decoder(model)
    packs = [of_layout(Layout((0, 5, 9, 12, 14, 21, 30), branches), 1), packed(sequences((6, 9), seed=2))]
    whole, runs = join(packs)
    routing = Routing(tuple(names[run.row] for run in runs), tuple(run.span for run in runs))
    scales = torch.rand(whole.num_targets, generator=torch.Generator().manual_seed(0)) + 0.5
    expected, *gradient = passed(decoder, model, whole, routing, scales.double(), *names)
    row = FixedRow.make(whole, routing, scales, names)
    assert row.shape.num_tokens == row.batch.num_tokens > whole.num_tokens
    assert row.shape.num_targets == row.batch.num_targets > row.num_targets == whole.num_targets
    owned = Routing(names, ((0, 0), (0, 0)), owners=row.owners)
    losses, *found = passed(decoder, model, row.batch, owned, row.scales.double(), *names)
    assert torch.allclose(losses[: row.num_targets], expected, rtol=1e-12)
    for one, other in zip(found, gradient, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[key], g, rtol=1e-9, atol=1e-12) for key, g in other.items())


@given(LAYOUTS, st.integers(1, 300))
def test_added_tokens_stand_at_the_end_and_see_none_of_the_row(layout, extra):
    batch = of_layout(layout)
    longer = lengthened(batch, layout.num_tokens + extra)
    assert longer.layout.branches == layout.branches
    assert longer.layout.offsets == (*layout.offsets, layout.num_tokens + extra)
    assert torch.equal(longer.input_ids[: layout.num_tokens], batch.input_ids)
    assert torch.equal(longer.position_ids[: layout.num_tokens], batch.position_ids)
    assert longer.position_ids.max() <= max(batch.position_ids.max(), 0)  # within the model's positions


@given(LAYOUTS)
def test_no_position_predicts_twice(layout):
    batch = of_layout(layout)
    routing = Routing(("a",), ((0, layout.num_tokens),))
    row = FixedRow.make(batch, routing, torch.ones(batch.num_targets), ("a",))
    assert len(set(row.batch.predicts.tolist())) == row.batch.num_targets == row.shape.num_targets
    assert row.scales[batch.num_targets :].abs().sum() == 0
    assert row.shape.num_runs >= len(row.batch.layout.offsets) - 1
    assert row.shape.num_shared >= len(layout.branches)
    assert row.owners is None


def test_there_are_few_shapes():
    lengths = {rounded(n, 64) for n in range(1, 4097)}
    assert len(lengths) < 40
    assert all(n <= rounded(n, 64) <= max(n + 63, n * 1.125) for n in range(1, 4097))
    assert {power(n, LEAST_RUNS) for n in range(1, 200)} == {64, 128, 256}


@given(st.integers(1, 64), st.integers(0, 4096))
def test_few_targets_stay_few(quarter, count):
    length = rounded(64 * quarter, 64)
    found = rounded_targets(min(count, length), length)
    assert min(count, length) <= found <= length
    assert found <= length / 4 or count > length / 4
    assert {rounded_targets(n, length) for n in range(length // 4 + 1)} <= {256, 512, length // 4}


@pytest.mark.parametrize("length", [CUDNN_FROM - 1, CUDNN_FROM, CUDNN_FROM + 1])
def test_one_long_text_grows_to_a_multiple(length):
    batch = packed([torch.arange(length) % 90 + 3])
    longer = in_cudnn_steps(batch)
    assert len(longer.layout.offsets) == 2
    if length < CUDNN_FROM:
        assert longer is batch
    else:
        assert longer.num_tokens == -(-length // CUDNN_STEP) * CUDNN_STEP
    two = packed([torch.arange(length) % 90 + 3, torch.arange(7)])
    assert in_cudnn_steps(two) is two
