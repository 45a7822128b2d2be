"""Weights in 4 bits, on bitsandbytes' CPU side: how near they are, both products, training, generation."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decoder.exact import gradients, packed, sequences, with_adapters
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model
from tests.real_parts import real_model
from tests.train.training import away_from_zero, same, tiny_examples, trainings

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.frozen import PackedLinear, PlainFrozen
from tenbin.decoder.nf4 import BLOCK, Nf4Frozen
from tenbin.errors import Interrupted, ModelError
from tenbin.memory import BASE_BYTES
from tenbin.models.encode import Encoded
from tenbin.models.loading import load_model
from tenbin.models.lora import activate, add_adapter, inject, lora_layers, trainable
from tenbin.train.engine import train
from tenbin.train.job import TrainJob
from tenbin.train.room import Room
from tenbin.train.step import train_step


def quantiles():
    """The 16 levels of 4-bit NormalFloat, by their definition (appendix E of the paper)."""
    normal = torch.distributions.Normal(0.0, 1.0)
    offset = 0.9677083
    above = normal.icdf(torch.linspace(offset, 0.5, 9, dtype=torch.float64)[:-1])
    below = -normal.icdf(torch.linspace(offset, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([above, torch.zeros(1, dtype=torch.float64), below]).sort().values
    return levels / levels.max()


LEVELS = quantiles()
WIDEST = float((LEVELS[1:] - LEVELS[:-1]).max()) / 2
"""Half of the widest gap between two levels: the most that rounding is off, of a block's largest."""
SCALE_ERROR = 0.02
"""Of a scale in 8 bits, beside its distance from the mean of all."""


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(-20, 20), st.sampled_from([(6, 64), (8, 32), (5, 192), (2, 96)]))
def test_every_element_is_within_half_a_gap_of_its_block(seed, power, shape):
    weight = rand(*shape, seed=seed) * 2.0**power
    held = Nf4Frozen.make(weight, None).plain()
    size = weight.numel()
    blocks = torch.nn.functional.pad(weight.flatten(), (0, -size % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(dim=1)
    spread = (largest - largest.mean()).abs().max()
    slack = SCALE_ERROR * spread + 1e-5 * largest
    bound = (WIDEST * largest + slack).repeat_interleave(BLOCK)[:size].view(shape)
    assert ((held - weight).abs() <= bound).all()


def test_the_levels_are_those_of_the_paper():
    """A weight that is the levels themselves, in one block, comes back as it is."""
    weight = LEVELS.float().repeat(8).view(2, 64)
    assert torch.allclose(Nf4Frozen.make(weight, None).plain(), weight, atol=2e-4)


def test_a_weight_takes_what_the_plan_counts():
    frozen = Nf4Frozen.make(rand(512, 512), None)
    tensors = (frozen.codes, frozen.scale_codes, frozen.scale_scales)
    held = sum(t.numel() * t.element_size() for t in tensors)
    assert held == 512 * 512 * BASE_BYTES["nf4"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_both_products_are_those_of_the_dequantized_weight(dtype, bias):
    weight, x = rand(48, 64, dtype=dtype), rand(9, 64, seed=1, dtype=dtype)
    grad = rand(9, 48, seed=2, dtype=dtype)
    b = rand(48, seed=3, dtype=dtype) if bias else None
    frozen = Nf4Frozen.make(weight, b)
    held = frozen.plain().float()
    y, dx = frozen.forward(x), frozen.backward(grad)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    close = {"rtol": 1e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    assert torch.allclose(y.float(), x.float() @ held.t() + (0 if b is None else b.float()), **close)
    assert torch.allclose(dx.float(), grad.float() @ held, **close)


@pytest.mark.parametrize(("start", "end"), [(0, 10), (2, 6), (6, 10), (4, 5)])
def test_rows_alone_are_those_of_the_whole(start, end):
    """They begin inside a block of scales: 256 of them share one."""
    bias = rand(10, seed=1)
    frozen = Nf4Frozen.make(rand(10, 8192), bias)
    part = frozen.rows(start, end)
    assert (part.out_features, part.in_features) == (end - start, 8192)
    assert torch.equal(part.plain(), frozen.plain()[start:end])
    assert torch.equal(part.bias, bias[start:end])
    assert part.codes.untyped_storage().data_ptr() == frozen.codes.untyped_storage().data_ptr()
    assert torch.equal(part.rows(0, 1).plain(), frozen.plain()[start : start + 1])


def test_rows_that_cut_a_block_are_refused():
    frozen = Nf4Frozen.make(rand(10, 24), None)
    assert frozen.rows(8, 10).shape == (2, 24)  # the last block of a weight may be short
    with pytest.raises(ModelError, match=r"base_dtype.*rows of 24 elements do not divide into blocks of 64"):
        frozen.rows(3, 8)


def test_a_type_that_is_not_taken_is_refused_with_a_remedy():
    with pytest.raises(ModelError, match=r'set training\.dtype to "bf16" or "fp32"'):
        Nf4Frozen.make(rand(8, 64, dtype=torch.float64), None)


def test_as_a_module_it_takes_batches():
    module = PackedLinear(Nf4Frozen.make(rand(12, 64), None))
    assert not list(module.parameters())  # nothing to train
    x = rand(2, 5, 64, seed=2)
    assert torch.allclose(module(x), x @ module.weight.t(), atol=1e-5)


def models(family, dtype=torch.float32):
    """A model in 4 bits and its decoder, and the same of a plain model that holds the dequantized weights."""
    model = with_adapters(tiny_model(family, dtype), "a")
    decoder = Decoder(model, make_frozen("nf4"))
    plain = with_adapters(tiny_model(family, dtype), "a")
    for (_, ours), (_, theirs) in zip(lora_layers(model), lora_layers(plain), strict=True):
        held = ours.base.weight
        theirs.base.weight.data.copy_(held.t() if theirs.transposed else held)
    return model, decoder, plain, Decoder(plain, PlainFrozen)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_dequantized_model(family):
    model, decoder, plain, expected = models(family)
    before = tiny_model(family)
    batch = packed(sequences())
    scales = torch.ones(batch.num_targets)
    found = []
    for d, m in ((decoder, model), (expected, plain)):
        d.use(("a",))
        losses = d.losses(batch, scales=scales)
        d.give_gradients()
        found.append((losses, gradients(m, "a")))
    (ours, our_gradients), (theirs, their_gradients) = found
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for name, gradient in their_gradients.items():
        assert torch.allclose(our_gradients[name], gradient, rtol=1e-4, atol=1e-5), name
    raw = Decoder(with_adapters(before, "a"))
    raw.use(("a",))
    assert not torch.allclose(raw.losses(batch), ours, rtol=1e-3)  # the bits were taken away


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_of_transformers_generates_with_the_same_weights(family):
    model, decoder, plain, _ = models(family)
    held = [m for m in model.modules() if isinstance(m, PackedLinear)]
    kinds = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, PackedLinear)}
    assert kinds == {"base"}  # every wrapped map, and no other
    own = {g.frozen.codes.untyped_storage().data_ptr() for b in decoder.blocks for g in b.groups}
    assert {m.frozen.codes.untyped_storage().data_ptr() for m in held} == own  # one copy
    with activate(model, "a"), activate(plain, "a"), torch.no_grad():
        assert torch.allclose(model(tiny_batch()).logits, plain(tiny_batch()).logits, rtol=1e-4, atol=1e-4)
        whole = torch.ones(3, 11, dtype=torch.int64)
        asked = {"attention_mask": whole, "max_new_tokens": 4, "do_sample": False}
        assert torch.equal(model.generate(tiny_batch(), **asked), plain.generate(tiny_batch(), **asked))


def job_of(model, **training):
    config = TrainingConfig(**{"epochs": 3, "batch_size": 4, "checkpoint_every_s": 0.0, **training})
    return TrainJob("a", trainable(model, "a"), config, rate=1e-2, seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_that_of_the_dequantized_model(family):
    model, decoder, plain, expected = models(family)
    jobs = [job_of(model), job_of(plain)]
    for job in jobs:
        away_from_zero(job)
    ours, theirs = (
        train_step(d, [job], tiny_examples(), Room(60, most_shared=8))[0]
        for d, job in zip((decoder, expected), jobs, strict=True)
    )
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    for name, p in jobs[0].parameters.items():
        # AdamW's first step is of the size of the rate, wherever the gradient is not 0.
        assert torch.allclose(p, jobs[1].parameters[name], atol=2e-4), name


def fresh():
    model = tiny_model("llama")
    inject(model)
    decoder = Decoder(model, make_frozen("nf4"))
    add_adapter(model, "a", LoraConfig(rank=4, alpha=8), seed=0)
    return decoder, job_of(model)


def test_resumed_is_uninterrupted(tmp_path):
    decoder, whole = fresh()
    train(decoder, trainings(tmp_path / "whole", [whole]), tiny_examples(), Room(40))
    decoder, job = fresh()
    (training,) = trainings(tmp_path / "cut", [job])
    steps = []

    def stop(stats):
        steps.append(stats.step)
        if stats.step == 5:
            raise Interrupted("made up")

    training.hooks = replace(training.hooks, on_step=stop)
    with pytest.raises(Interrupted):
        train(decoder, [training], tiny_examples(), Room(40))
    decoder, again = fresh()  # quantized anew, from the same weights
    train(decoder, trainings(tmp_path / "cut", [again]), tiny_examples(), Room(40))
    assert steps[-1] == 5
    assert again.step == whole.step
    assert same(again, whole)


def test_nothing_is_fetched_while_bitsandbytes_is_loaded():
    """On a CPU with bf16 it would ask a hub for a kernel."""
    code = (
        "import sys\n"
        "asked = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'kernels':\n"
        "            asked.append(name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import torch\n"
        "from tenbin.decoder.nf4 import Nf4Frozen\n"
        "assert 'bitsandbytes' not in sys.modules\n"
        "Nf4Frozen.make(torch.ones(2, 64), None)\n"
        "assert 'bitsandbytes' in sys.modules and 'kernels' not in sys.modules\n"
        "print(asked)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


TEXTS = (
    "日本の首都は東京です。人口は約千四百万人で、政治と経済の中心になっています。",
    "倉庫の鍵は受付の棚にあり、使う人は名前と時刻を帳面に書きます。",
)


@pytest.mark.model
def test_a_real_model_loses_little():
    """Gemma 3 270M on Japanese text, 4 bits for 16: a tenth of the loss at most, before and after steps."""
    loaded = load_model(real_model(), dtype=torch.bfloat16)
    inject(loaded.model)
    ids = [tuple(loaded.tokenizer(text)["input_ids"]) for text in TEXTS]
    examples = [Encoded(one[:1], one[1:]) for one in ids]
    losses = {}
    for base in ("same", "nf4"):
        decoder = Decoder(loaded.model, make_frozen(base))
        add_adapter(loaded.model, base, LoraConfig(), seed=0)
        config = TrainingConfig(epochs=3, batch_size=2, loss_on="all", schedule="constant", warmup=0)
        job = TrainJob(base, trainable(loaded.model, base), config, rate=3e-4, seed=0)
        losses[base] = [train_step(decoder, [job], examples, Room(1000))[0].loss for _ in range(3)]
    assert losses["nf4"][0] != losses["same"][0]
    for before, after in ((losses["same"][0], losses["nf4"][0]), (losses["same"][-1], losses["nf4"][-1])):
        assert after < 1.1 * before
    assert losses["nf4"][-1] < 0.8 * losses["nf4"][0]
