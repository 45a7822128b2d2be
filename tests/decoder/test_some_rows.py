"""The last block on the rows that predict: the same as on all rows, whatever is kept, shared and routed."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
from tests.models.tiny import FAMILIES

from tenbin.decoder import decoder as decoder_module
from tenbin.decoder import reader
from tenbin.decoder.attend import Plan
from tenbin.decoder.block import Block, Keep
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import FixedRow
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join
from tenbin.decoder.reader import Reader
from tenbin.decoder.reading import Piece
from tenbin.decoder.replay import Replays
from tenbin.decoder.some_rows import Selected, owners_of, put_back, runs_of_rows
from tenbin.models.lora import activate

ANSWERS = (2, 0, 3, 0, 5)
"""Targets at the end of each of the texts of `sequences()`."""


def few_targets(texts, counts=ANSWERS):
    """The last tokens of each text are targets: 10 of 52 tokens."""
    batch = packed(texts)
    ends = itertools.accumulate(len(t) for t in texts)
    places = [p for end, n in zip(ends, counts, strict=True) for p in range(end - 1 - n, end - 1)]
    predicts = torch.tensor(places)
    return replace(batch, predicts=predicts, labels=batch.input_ids[predicts + 1])


def passed(decoder, model, batch, *names, routing=None, keep=None, scales=None):
    decoder.use(names)
    scales = torch.ones(batch.num_targets, dtype=torch.float64) if scales is None else scales
    losses = decoder.losses(batch, routing, scales=scales, keep=keep)
    decoder.give_gradients()
    found = [gradients(model, name) for name in names]
    clear(model, *names)
    return losses, *found


def assert_same(found, expected, rtol=1e-10):
    losses, *gradient = found
    right, *other = expected
    assert torch.allclose(losses, right, rtol=1e-12, atol=1e-12)
    for one, of in zip(gradient, other, strict=True):
        assert one.keys() == of.keys()
        for key, value in of.items():
            assert torch.allclose(one[key], value, rtol=rtol, atol=1e-12), key
            assert value.abs().max() > 1e-8, f"{key}: nothing to compare"


@pytest.fixture
def rows_of(monkeypatch):
    """(rows in, rows out, what was kept) of every block that went forward."""
    seen = []
    forward = Block.forward

    def watched(block, x, *others):
        y, saved = forward(block, x, *others)
        seen.append((x.shape[0], y.shape[0], saved))
        return y, saved

    monkeypatch.setattr(Block, "forward", watched)
    return seen


def of_all_rows(monkeypatch, *arguments, **options):
    """The pass as it is where nothing is selected."""
    with monkeypatch.context() as patched:
        patched.setattr(decoder_module.Selected, "of", lambda *_: None)
        return passed(*arguments, **options)


def numbers(seen):
    return [(before, after) for before, after, _ in seen]


# --- against transformers and autograd ---


@pytest.mark.parametrize("family", [*FAMILIES, *(f"other {kind}" for kind in OTHERS)])
def test_losses_and_gradients_equal_transformers(family, rows_of):
    model = other_model(family[6:]) if family.startswith("other") else exact_model(family)
    with_adapters(model, "a")
    texts = sequences()
    expected = []
    with activate(model, "a"):
        for text, count in zip(texts, ANSWERS, strict=True):
            if count:
                logits = model(text[None], use_cache=False).logits[0, -1 - count : -1].double()
                loss = torch.nn.functional.cross_entropy(logits, text[-count:], reduction="none")
                loss.sum().backward()
                expected.append(loss.detach())
    gradient = gradients(model, "a")
    clear(model, "a")
    decoder = Decoder(model)
    losses, found = passed(decoder, model, few_targets(texts), "a")
    assert torch.allclose(losses, torch.cat(expected), rtol=1e-10, atol=1e-12)
    for key, value in gradient.items():
        assert torch.allclose(found[key], value, rtol=1e-9, atol=1e-10), key
    assert numbers(rows_of) == [*[(52, 52)] * (decoder.num_layers - 1), (52, 10)]


# --- against the same pass on all rows ---


@pytest.mark.parametrize("mlp_rows", [16384, 7])
@pytest.mark.parametrize("keep", list(Keep))
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_kept(family, keep, mlp_rows, rows_of, monkeypatch):
    monkeypatch.setattr(decoder_module, "MLP_ROWS", mlp_rows)
    model = with_adapters(exact_model(family), "a")
    decoder, batch = Decoder(model), few_targets(sequences())
    levels = [keep] * decoder.num_layers
    expected = of_all_rows(monkeypatch, decoder, model, batch, "a", keep=levels)
    assert {after for _, after, _ in rows_of} == {52}
    rows_of.clear()
    found = passed(decoder, model, batch, "a", keep=levels)
    assert numbers(rows_of)[-1] == (52, 10)
    assert_same(found, expected)
    saved = rows_of[-1][2]
    for kept in (saved.h, saved.o, saved.up, saved.down, saved.o_low, saved.up_low, saved.down_low):
        assert kept is None or kept.shape[0] == 10


@pytest.mark.parametrize("keep", [Keep.ALL, Keep.ATTENTION, Keep.INPUT])
@pytest.mark.parametrize("mlp_rows", [16384, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_several_adapters_whose_tokens_stand_in_turn(family, mlp_rows, keep, rows_of, monkeypatch):
    """Spans end inside texts and between targets; one target is of no adapter."""
    monkeypatch.setattr(decoder_module, "MLP_ROWS", mlp_rows)
    names = ("a", "b", "c")
    model = with_adapters(exact_model(family), *names)
    decoder, batch = Decoder(model), few_targets(sequences())
    routing = Routing(("b", "a", "b", "c"), ((0, 13), (13, 28), (29, 50), (50, 52)))
    levels = [keep] * decoder.num_layers
    expected = of_all_rows(monkeypatch, decoder, model, batch, *names, routing=routing, keep=levels)
    rows_of.clear()
    found = passed(decoder, model, batch, *names, routing=routing, keep=levels)
    assert numbers(rows_of)[-1] == (52, 10)
    assert_same(found, expected)
    owned = Routing((), (), owners=owners_of(routing, 52, names))
    assert_same(passed(decoder, model, batch, *names, routing=owned, keep=levels), expected)


@pytest.mark.parametrize("name", ["a", "b", None])
def test_all_rows_of_one_of_several_adapters_or_of_none(name, rows_of, monkeypatch):
    model = with_adapters(exact_model("llama"), "a", "b")
    decoder, batch = Decoder(model), few_targets(sequences())
    routing = Routing((), ()) if name is None else Routing((name,), ((0, 52),))
    expected, *gradient = of_all_rows(monkeypatch, decoder, model, batch, "a", "b", routing=routing)
    rows_of.clear()
    losses, *found = passed(decoder, model, batch, "a", "b", routing=routing)
    assert numbers(rows_of)[-1] == (52, 10)
    assert torch.allclose(losses, expected, rtol=1e-12)
    for one, other in zip(found, gradient, strict=True):
        assert all(torch.allclose(one[key], g, rtol=1e-10, atol=1e-12) for key, g in other.items())
    assert torch.allclose(decoder.losses(batch, routing), expected, rtol=1e-12)  # likelihoods alone


@pytest.mark.parametrize("keep", [Keep.ALL, Keep.INPUT])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_behind_shared_prefixes(family, keep, rows_of, monkeypatch):
    """Two passages with two questions and one, the last two tokens of each question are targets."""
    names = ("a", "b")
    model = with_adapters(exact_model(family), *names)
    decoder = Decoder(model)
    shared = of_layout(Layout((0, 8, 15, 19, 23, 29, 36), (2, 1)))
    whole, runs = join([shared, few_targets(sequences((9, 6)), (2, 1))])
    routing = Routing(tuple(names[run.row] for run in runs), tuple(run.span for run in runs))
    levels = [keep] * decoder.num_layers
    expected = of_all_rows(monkeypatch, decoder, model, whole, *names, routing=routing, keep=levels)
    rows_of.clear()
    found = passed(decoder, model, whole, *names, routing=routing, keep=levels)
    assert numbers(rows_of)[-1] == (whole.num_tokens, whole.num_targets) == (51, 11)
    assert_same(found, expected)


def of_layout(layout):
    """The last two of the tokens of each segment that is no prefix are targets."""
    (ids,) = sequences((layout.num_tokens,), seed=3)
    ends = layout.offsets[layout.num_prefixes + 1 :]
    predicts = torch.tensor([p for end in ends for p in (end - 3, end - 2)])
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, predicts, ids[predicts + 1])


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_a_fixed_shape(family, names, rows_of, monkeypatch):
    """Rows that were added to the targets predict nothing, but go on too."""
    model = with_adapters(exact_model(family), *names)
    decoder, batch = Decoder(model), few_targets(sequences())
    spans = ((0, 52),) if len(names) == 1 else ((0, 31), (31, 52))
    scales = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    expected = of_all_rows(
        monkeypatch, decoder, model, batch, *names, routing=Routing(names, spans), scales=scales.float()
    )
    row = FixedRow.make(batch, Routing(names, spans), scales, names)
    assert (row.shape.num_tokens, row.shape.num_targets) == (64, 16)
    rows_of.clear()
    routing = Routing(names, ((0, 64),) * len(names), owners=row.owners)
    losses, *found = passed(decoder, model, row.batch, *names, routing=routing, scales=row.scales)
    assert numbers(rows_of)[-1] == (64, 16)
    assert_same((losses[:10], *found), expected)


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_which_rows_go_on_is_data_of_a_replay(family, names, rows_of, monkeypatch):
    """Recorded once and done again for other rows of its shape, reading what stands where the first stood.

    Here the work is called again where a CUDA graph is launched, and runs of segments, which a GPU finds on
    the device, are told by hand.
    """
    model = with_adapters(exact_model(family), *names)
    decoder = Decoder(model)
    rows, expected = [], []
    for counts, cut in ((ANSWERS, 31), ((1, 2, 0, 0, 1), 14), ((0, 1, 8, 0, 6), 45)):
        batch = few_targets(sequences(seed=cut), counts)
        routing = Routing(names, ((0, 52),) if len(names) == 1 else ((0, cut), (cut, 52)))
        scales = torch.full((batch.num_targets,), 1 / batch.num_targets)
        rows.append(FixedRow.make(batch, routing, scales, names))
        expected.append(
            of_all_rows(monkeypatch, decoder, model, batch, *names, routing=routing, scales=scales)
        )
    assert len({row.shape for row in rows}) == 1
    plan = Plan.make(rows[0].batch.layout, decoder.device)
    decoder.use(names)
    decoder._replays = Replays(
        lambda p, keep: decoder._losses(replace(p, plan=plan), keep), decoder.device, names
    )

    def record(_, known):
        known.result = torch.zeros(16, dtype=torch.float64)
        known.graph = SimpleNamespace(replay=lambda: known.result.copy_(known.work()))

    monkeypatch.setattr(Replays, "_record", record)
    rows_of.clear()
    for row, (right, *gradient) in zip(rows * 2, expected * 2, strict=True):
        losses = decoder.replayed_losses(row)
        decoder.give_gradients()
        found = [gradients(model, name) for name in names]
        clear(model, *names)
        assert_same((losses, *found), (right, *gradient))
        assert numbers(rows_of)[-1] == (64, 16)


def test_with_dropout_all_rows_go_on(rows_of):
    """Masks are drawn for whole examples: those of some rows would be others."""
    model = with_adapters(exact_model("llama"), "a", dropout=0.4)
    decoder, batch = Decoder(model), few_targets(sequences())
    spans = enumerate(itertools.pairwise(batch.layout.offsets))
    routing = Routing(("a",), ((0, 52),), (tuple((a, b, i) for i, (a, b) in spans),))
    passed(decoder, model, batch, "a", routing=routing)
    assert numbers(rows_of) == [(52, 52)] * decoder.num_layers


# --- which rows, and whose they are ---


@given(st.integers(0, 40), st.integers(1, 40))
def test_whether_follows_from_the_numbers_of_rows_alone(count, num_tokens):
    """Tensors without contents: what asked for one would fail, and a CUDA graph could not hold it."""
    predicts = torch.empty(count, dtype=torch.int64, device="meta")
    owned = Routing(
        ("a", "b"), ((0, num_tokens),) * 2, owners=torch.empty(num_tokens, dtype=torch.int64, device="meta")
    )
    for routing in (owned, Routing(("a",), ((0, num_tokens),))):
        found = Selected.of(predicts, routing, num_tokens, ("a", "b"))
        assert (found is not None) == (0 < count <= num_tokens / 2)
        if found is not None:
            taken = found.taken(torch.empty(num_tokens, 3, 2, device="meta"))
            assert taken.shape == (count, 3, 2)
            assert found.put_back(taken).shape == (num_tokens, 3, 2)


def test_the_adapter_of_every_row():
    predicts = torch.tensor([1, 4, 5, 9])
    names = ("a", "b")
    one = Selected.of(predicts, Routing(("b", "b"), ((0, 6), (6, 10))), 10, names)
    assert (one.routing.names, one.routing.spans, one.routing.owners) == (("b",), ((0, 4),), None)
    part = Selected.of(predicts, Routing(("b",), ((0, 5),)), 10, names)
    assert part.routing.owners.tolist() == [1, 1, -1, -1]
    two = Selected.of(predicts, Routing(("b", "a"), ((0, 5), (5, 10))), 10, names)
    assert two.routing.owners.tolist() == [1, 1, 0, 0]
    none = Selected.of(predicts, Routing((), ()), 10, names)
    assert (none.routing.names, none.routing.spans, none.routing.owners) == ((), (), None)


def test_rows_go_back_where_they_stood():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert put_back(x, torch.tensor([3, 1]), 4).tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]


@given(st.integers(1, 30), st.integers(1, 30), st.lists(st.integers(0, 30), min_size=2, max_size=2))
def test_runs_keep_every_rows_adapter(num_rows, most, cuts):
    first, second = sorted(min(cut, num_rows) for cut in cuts)
    names, spans = ("a", "b"), ((0, first), (second, num_rows))
    routing = Routing(names, spans)
    whole = owners_of(routing, num_rows, names)
    for given_routing in (routing, Routing((), (), owners=whole)):
        runs = runs_of_rows(num_rows, most, given_routing)
        assert [i for span, _ in runs for i in range(num_rows)[span]] == list(range(num_rows))
        assert all(len(range(num_rows)[span]) <= most for span, _ in runs)
        parts = [
            r.owners if r.owners is not None else owners_of(r, len(range(num_rows)[span]), names)
            for span, r in runs
        ]
        assert torch.equal(torch.cat(parts), whole)


# --- reading ---


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapters", [("a", "a", "a"), ("a", "b", None), (None, None, None)])
def test_reading_takes_the_last_tokens_alone(family, adapters, monkeypatch):
    """A long prompt in pieces, the first of which predict nothing; with others in the same pass."""
    names = ("a", "b")
    decoder = Decoder(with_adapters(exact_model(family), *names))
    decoder.use(names)
    prompts = [p.tolist() for p in sequences((21, 9, 12), seed=7)]
    passes = [
        [Piece(prompts[0][:8], 0, 0, adapter=adapters[0], predicts=False)],
        [Piece(prompts[0][8:13], 0, 8, adapter=adapters[0], predicts=False)],
        [
            Piece(prompts[0][13:], 0, 13, adapter=adapters[0]),
            Piece(prompts[1], 30, 0, adapter=adapters[1]),
            Piece(prompts[2], 50, 0, adapter=adapters[2]),
        ],
    ]
    states, outputs = [], []
    most_likely, after = reader.most_likely, Block._after

    def watched(hidden, head):
        states.append(hidden)
        return most_likely(hidden, head)

    def watched_after(block, *others):
        found = after(block, *others)
        outputs.append(found[0].shape[0])
        return found

    monkeypatch.setattr(reader, "most_likely", watched)
    monkeypatch.setattr(Block, "_after", watched_after)
    caches = []
    for selects in (False, True):
        outputs.clear()
        with monkeypatch.context() as patched:
            if not selects:
                patched.setattr(reader.Selected, "of", lambda *_: None)
            one = Reader(decoder, 80)
            answers = [one.read(pieces).ids() for pieces in passes]
        assert [len(ids) for ids in answers] == [0, 0, 3]
        caches.append(one.cache)
        layers = decoder.num_layers
        expected = [*[8] * (layers - 1), *[5] * (layers - 1), *[29] * (layers - 1)]
        assert outputs == [*expected, 3 if selects else 29]
    assert torch.allclose(states[0], states[1], rtol=1e-12, atol=1e-12)
    slots = [*range(21), *range(30, 39), *range(50, 62)]
    for one, other in zip(caches[0].keys + caches[0].values, caches[1].keys + caches[1].values, strict=True):
        assert torch.equal(one[slots], other[slots])
