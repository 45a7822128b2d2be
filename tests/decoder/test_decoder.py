"""The decoder against transformers and autograd: packed = one by one, shared = separate, together = alone."""

import itertools
import weakref
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from tests.decoder.exact import (
    OTHERS,
    clear,
    exact_model,
    gradients,
    other_model,
    packed,
    sequences,
    with_adapters,
)
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.decoder.block import Block, Keep
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join
from tenbin.models.lora import activate, lora_layers, set_micro_batch


def theirs(model, name, texts, numbers=None):
    """Losses and gradients by transformers and autograd, one text at a time."""
    losses = []
    with activate(model, name):
        for i, text in enumerate(texts):
            if numbers is not None:
                set_micro_batch(model, numbers[i])
            logits = model(text[None], use_cache=False).logits[0, :-1].double()
            if len(text) > 1:
                loss = torch.nn.functional.cross_entropy(logits, text[1:], reduction="none")
                loss.sum().backward()
                losses.append(loss.detach())
    found = gradients(model, name)
    clear(model, name)
    return torch.cat(losses), found


def ours(decoder, model, batch, *names, routing=None, keep=None):
    decoder.use(names)
    scales = torch.ones(batch.num_targets, dtype=torch.float64)
    losses = decoder.losses(batch, routing, scales=scales, keep=keep)
    decoder.give_gradients()
    found = [gradients(model, name) for name in names]
    clear(model, *names)
    return losses, *found


def assert_same(found, expected, atol=1e-10):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-9, atol=atol), key
        assert value.abs().max() > 1e-8, f"{key}: nothing to compare"


@pytest.mark.parametrize("family", [*FAMILIES, *(f"other {kind}" for kind in OTHERS)])
def test_packed_losses_and_gradients_equal_transformers_one_by_one(family):
    model = other_model(family[6:]) if family.startswith("other") else exact_model(family)
    with_adapters(model, "a")
    texts = sequences()
    expected, gradient = theirs(model, "a", texts)
    losses, found = ours(Decoder(model), model, packed(texts), "a")
    assert torch.allclose(losses, expected, rtol=1e-10, atol=1e-12)
    assert_same(found, gradient)
    again, _ = theirs(model, "a", texts)  # its weights lie elsewhere now, and are the same
    assert torch.equal(again, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep", list(Keep))
def test_what_is_kept_does_not_change_the_result(family, keep):
    model = with_adapters(exact_model(family), "a")
    decoder, batch = Decoder(model), packed(sequences())
    expected, gradient = ours(decoder, model, batch, "a")
    levels = [keep, *[Keep.ALL] * (decoder.num_layers - 2), keep]
    losses, found = ours(decoder, model, batch, "a", keep=levels)
    assert torch.equal(losses, expected)
    assert_same(found, gradient, atol=1e-12)


def test_what_a_block_kept_is_free_when_it_is_done(monkeypatch):
    """Also the last one's: the plan counts on its room for what comes back from the computer's memory."""
    decoder, batch = Decoder(with_adapters(exact_model("llama"), "a")), packed(sequences())
    kept, seen = [], []
    forward, backward = Block.forward, Block.backward

    def watched(block, *args):
        y, s = forward(block, *args)
        kept.append([weakref.ref(x) for x in (s.qkv, s.up, s.h)])
        return y, s

    def watched_back(block, *args):
        later = kept[1 + next(i for i, one in enumerate(decoder.blocks) if one is block) :]
        seen.append([ref() is None for refs in later for ref in refs])
        return backward(block, *args)

    monkeypatch.setattr(Block, "forward", watched)
    monkeypatch.setattr(Block, "backward", watched_back)
    decoder.use(("a",))
    decoder.losses(batch, scales=torch.ones(batch.num_targets, dtype=torch.float64))
    assert [len(found) for found in seen] == [3 * i for i in range(decoder.num_layers)]
    assert all(all(found) for found in seen)


@pytest.mark.parametrize("levels", [[Keep.AWAY, Keep.ALL], [Keep.ALL, Keep.AWAY], [Keep.HOST, Keep.AWAY]])
def test_a_pass_that_did_not_end_leaves_nothing_to_the_next(levels, monkeypatch):
    """Nor where nobody had its gradients forgotten: what it left is not the next pass's."""
    model = with_adapters(exact_model("llama"), "a")
    decoder, batch = Decoder(model), packed(sequences())
    levels = [*levels, *[Keep.AWAY] * (decoder.num_layers - 2)]
    expected, gradient = ours(Decoder(model), model, batch, "a")

    def failing(block, *args):
        raise torch.OutOfMemoryError("out of memory")

    decoder.use(("a",))
    longer = packed(sequences((40, 30, 20)))
    with monkeypatch.context() as patched:
        patched.setattr(Block, "backward", failing)
        with pytest.raises(torch.OutOfMemoryError):
            decoder.losses(longer, scales=torch.ones(longer.num_targets, dtype=torch.float64), keep=levels)
    for keep in (None, levels):
        losses, found = ours(decoder, model, batch, "a", keep=keep)
        assert torch.equal(losses, expected)
        assert_same(found, gradient, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_of_the_wide_products_do_not_change_the_result(family, monkeypatch):
    model = with_adapters(exact_model(family), "a", "b")
    decoder, batch = Decoder(model), packed(sequences())
    routing = Routing(("a", "b"), ((0, 31), (31, 52)))
    expected = ours(decoder, model, batch, "a", "b", routing=routing)
    monkeypatch.setattr("tenbin.decoder.decoder.MLP_ROWS", 7)
    levels = [Keep.INPUT, Keep.ATTENTION, Keep.PROJECTIONS][: decoder.num_layers]
    found = ours(decoder, model, batch, "a", "b", routing=routing, keep=levels)
    assert torch.allclose(found[0], expected[0], rtol=1e-12)
    assert_same(found[1], expected[1])
    assert_same(found[2], expected[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_equals_separate_texts(family):
    """Two passages, one with three questions and one with one; and a text that shares nothing."""
    if family == "gemma3_text":
        model = exact_model(family)
        for layer in model.model.layers:
            if layer.self_attn.sliding_window is not None:
                layer.self_attn.sliding_window = 64  # a window shares no prefix: it is refused below
        model.config.sliding_window = 64
    else:
        model = exact_model(family)
    with_adapters(model, "a")
    (first, second, *branches, lone) = sequences((9, 5, 4, 2, 7, 3, 6))
    groups = [(first, branches[:3]), (second, branches[3:])]
    expected, gradient = [], {}
    for prefix, ends in groups:
        for end in ends:
            loss, g = branch_losses(model, prefix, end)
            expected.append(loss)
            gradient = {k: v + gradient.get(k, 0) for k, v in g.items()}
    loss, g = theirs(model, "a", [lone])
    expected.append(loss)
    gradient = {k: v + gradient[k] for k, v in g.items()}

    tokens = [prefix for prefix, _ in groups]
    predicts = []
    for end in [*(end for _, ends in groups for end in ends), lone]:
        start = sum(map(len, tokens))
        predicts += range(start, start + len(end) - 1)
        tokens.append(end)
    ids = torch.cat(tokens)
    layout = Layout((0, *itertools.accumulate(map(len, tokens))), tuple(len(ends) for _, ends in groups))
    places = torch.tensor(predicts)
    batch = PackedBatch(ids, torch.tensor(layout.positions()), layout, places, ids[places + 1])
    for keep in (Keep.ALL, Keep.INPUT):
        decoder = Decoder(model)
        losses, found = ours(decoder, model, batch, "a", keep=[keep] * decoder.num_layers)
        assert torch.allclose(losses, torch.cat(expected), rtol=1e-10, atol=1e-12)
        assert_same(found, gradient)


def branch_losses(model, prefix, end):
    """The targets are the tokens of the branch but its first."""
    text = torch.cat([prefix, end])
    with activate(model, "a"):
        logits = model(text[None], use_cache=False).logits[0, len(prefix) : -1].double()
        loss = torch.nn.functional.cross_entropy(logits, end[1:], reduction="none")
        loss.sum().backward()
    found = gradients(model, "a")
    clear(model, "a")
    return loss.detach(), found


def draws(batch, number, start=0):
    """One mask a text."""
    spans = itertools.pairwise(batch.layout.offsets)
    return tuple((start + a, start + b, number + i) for i, (a, b) in enumerate(spans))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_together_equals_alone(family, dropout):
    """Adapters of different ranks, each with its own texts, in one pass."""
    names = ("a", "b", "c")
    model = with_adapters(exact_model(family), *names, dropout=dropout)
    packs = [packed(sequences(lengths, seed=i)) for i, lengths in enumerate([(5, 9), (12,), (2, 3, 4)])]
    decoder = Decoder(model)
    alone = []
    for i, (name, batch) in enumerate(zip(names, packs, strict=True)):
        routing = Routing((name,), ((0, batch.num_tokens),), (draws(batch, 10 * i),))
        alone.append(ours(decoder, model, batch, name, routing=routing))
    ends = list(itertools.accumulate(p.num_tokens for p in packs))
    spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
    numbers = tuple(draws(p, 10 * i, spans[i][0]) for i, p in enumerate(packs))
    losses, *found = ours(decoder, model, join(packs)[0], *names, routing=Routing(names, spans, numbers))
    assert torch.allclose(losses, torch.cat([loss for loss, _ in alone]), rtol=1e-12, atol=1e-12)
    for one, (_, expected) in zip(found, alone, strict=True):
        assert_same(one, expected)


def test_dropout_equals_autograds():
    model = with_adapters(exact_model("llama"), "a", dropout=0.4)
    texts = sequences((13, 7))
    for _, layer in lora_layers(model):
        layer.training = True
    expected, gradient = theirs(model, "a", texts, numbers=[5, 6])
    batch = packed(texts)
    routing = Routing(("a",), ((0, 20),), (draws(batch, 5),))
    for keep in (Keep.ALL, Keep.INPUT):
        losses, found = ours(Decoder(model), model, batch, "a", routing=routing, keep=[keep] * 2)
        assert torch.allclose(losses, expected, rtol=1e-10)
        assert_same(found, gradient)
    routing = Routing(("a",), ((0, 20),), (draws(batch, 6),))
    other, _ = ours(Decoder(model), model, batch, "a", routing=routing)
    assert not torch.allclose(other, expected)


@pytest.mark.parametrize("targets", [["v_proj"], ["q_proj", "down_proj"], ["gate_proj", "k_proj"]])
def test_adapters_on_some_of_the_linear_maps(targets):
    model = with_adapters(exact_model("llama"), "a", targets=targets)
    texts = sequences()
    expected, gradient = theirs(model, "a", texts)
    losses, found = ours(Decoder(model), model, packed(texts), "a")
    assert torch.allclose(losses, expected, rtol=1e-10)
    assert_same(found, gradient)


def test_losses_without_gradients_leave_none():
    model = with_adapters(exact_model("llama"), "a")
    decoder, texts = Decoder(model), sequences()
    decoder.use(("a",))
    expected, _ = theirs(model, "a", texts)
    assert torch.allclose(decoder.losses(packed(texts)), expected, rtol=1e-10)
    decoder.give_gradients()
    assert not gradients(model, "a")


def test_without_an_adapter_it_is_the_base_model():
    model = tiny_model("gpt2", torch.float64)
    texts = sequences()
    losses = Decoder(model).losses(packed(texts))
    logits = [model(t[None]).logits[0, :-1] for t in texts if len(t) > 1]
    expected = torch.nn.functional.cross_entropy(
        torch.cat(logits), torch.cat([t[1:] for t in texts]), reduction="none"
    )
    assert torch.allclose(losses, expected, rtol=1e-10)


@dataclass
class GpuTensor:
    """What `without_flash` asks of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...] = (9, 32)
    is_cuda: bool = True
    device: str = "cuda"

    def new_empty(self, *shape):
        return GpuTensor(self.dtype, shape)


@pytest.mark.parametrize(
    ("dtype", "capability", "head_dim", "replayable"),
    [
        (torch.bfloat16, (9, 0), 128, True),
        (torch.bfloat16, (9, 0), 512, False),
        (torch.float16, (7, 5), 128, False),
        (torch.float32, (9, 0), 128, False),
    ],
)
def test_graphs_only_where_attention_finds_the_segments_on_the_device(
    monkeypatch, dtype, capability, head_dim, replayable
):
    """Elsewhere all examples of a row would see each other: a graph's pass does not know them on the host."""
    decoder = Decoder(tiny_model("llama", torch.float32))
    assert not decoder.replayable
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    decoder._parts = SimpleNamespace(head=GpuTensor(dtype))
    decoder.blocks = (SimpleNamespace(head_dim=64), SimpleNamespace(head_dim=head_dim))
    assert decoder.replayable == replayable
