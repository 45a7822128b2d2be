"""The decoder on a GPU in bf16 against float32 on a CPU; the cap holds; what does not fit is retried."""

import copy
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.decoder.exact import clear, gradients, packed
from tests.models.tiny import FAMILIES
from tests.train.training import trainings
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.attend import CUDNN_FROM, CUDNN_STEP
from tenbin.decoder.block import Keep
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import FixedRow
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join
from tenbin.errors import BudgetError
from tenbin.memory import CUDA_CONTEXT_BYTES, MIB
from tenbin.models.encode import Encoded
from tenbin.models.lora import add_adapter, inject, trainable
from tenbin.runs import Run
from tenbin.train.checkpoint import read_checkpoint, write_checkpoint
from tenbin.train.engine import train
from tenbin.train.job import TrainJob
from tenbin.train.room import Room
from tenbin.train.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
DEVICE = torch.device("cuda")
VOCABULARY = 1009
SIZES = {
    "llama": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    },
    "gpt2": {"n_embd": 256, "n_inner": 1024, "n_layer": 3, "n_head": 4, "n_positions": 4096},
    "gemma3_text": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 7,  # the sixth sees everything
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "max_position_embeddings": 4096,
        "sliding_window": 512,
    },
}


def some_model(family, **changes):
    """Weights as wide as those that a training begins with, in bf16."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **({"vocab_size": VOCABULARY} | SIZES[family] | changes), **ids)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.to(torch.bfloat16).eval()


def with_adapters(model, *names, dropout=0.0):
    """Of ranks 16, 8, 24; not zero. Drawn on the CPU: alike wherever the model is."""
    inject(model)
    for i, name in enumerate(names):
        add_adapter(model, name, LoraConfig(rank=(16, 8, 24)[i], alpha=16, dropout=dropout), seed=i)
        generator = torch.Generator().manual_seed(i)
        for p in trainable(model, name).values():
            p.data.copy_(torch.empty(p.shape, dtype=p.dtype).normal_(std=0.05, generator=generator))
    return model


def both(family, *names, make=PlainFrozen, dropout=0.0):
    """(model and decoder on the CPU in float32, the same on the GPU in bf16)."""
    model = with_adapters(some_model(family), *names, dropout=dropout)
    here = copy.deepcopy(model).float()
    there = model.to(DEVICE)
    return (here, Decoder(here, make)), (there, Decoder(there, make))


def texts(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator) for n in lengths]


def segments():
    return packed(texts(300, 17, 1, 611, 64, 128))


def one_long_row():
    """Long enough for cuDNN, longer than Gemma's window."""
    return packed(texts(CUDNN_FROM + 5 * CUDNN_STEP))


def shared_prefix():
    """Two passages with three questions and one, and a text that shares nothing."""
    offsets = (0, 200, 293, 333, 393, 400, 450, 580)
    layout = Layout(offsets, (3, 1))
    predicts = [i for a, b in itertools.pairwise(offsets) if a >= 293 for i in range(a, b - 1)]
    ids, places = texts(580)[0], torch.tensor(predicts)
    return PackedBatch(ids, torch.tensor(layout.positions()), layout, places, ids[places + 1])


def few_targets():
    """The last tenth of each text is predicted: the last block goes on with those rows alone."""
    batch = segments()
    spans = itertools.pairwise(batch.layout.offsets)
    places = torch.tensor([i for a, b in spans for i in range(b - 1 - (b - a) // 10, b - 1)])
    return replace(batch, predicts=places, labels=batch.input_ids[places + 1])


def few_targets_of_one():
    """Some tokens of a long text are predicted, in both of its parts."""
    batch = one_long_row()
    end = batch.num_tokens - 1
    places = torch.tensor([*range(400, 450), *range(end - 50, end)])
    return replace(batch, predicts=places, labels=batch.input_ids[places + 1])


BATCHES = {
    "segments": segments,
    "one-long-row": one_long_row,
    "shared-prefix": shared_prefix,
    "few-targets": few_targets,
    "few-targets-of-one": few_targets_of_one,
}


def passed(model, decoder, batch, *names, routing=None, keep=None):
    """Losses, and the gradients of each adapter, on the CPU."""
    decoder.use(names)
    scales = torch.full((batch.num_targets,), 1 / batch.num_targets, dtype=torch.float64)
    losses = decoder.losses(batch.to(decoder.device), routing, scales=scales.to(decoder.device), keep=keep)
    decoder.give_gradients()
    found = [{key: g.cpu() for key, g in gradients(model, name).items()} for name in names]
    clear(model, *names)
    return losses.cpu(), *found


def off(found, expected):
    """Largest relative error of the gradient of one matrix, by norms."""
    assert found.keys() == expected.keys()
    return max(((found[k] - g).norm() / g.norm()).item() for k, g in expected.items())


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_on_the_gpu_against_float32_on_the_cpu(family, batch):
    here, there = both(family, "a")
    expected, gradient = passed(*here, batch(), "a")
    losses, found = passed(*there, batch(), "a")
    assert (losses - expected).abs().max() < 0.15
    assert losses.mean().item() == pytest.approx(expected.mean().item(), rel=2e-3)
    assert off(found, gradient) < 0.06


@pytest.mark.parametrize("keep", list(Keep), ids=lambda keep: keep.name)
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_does_not_change_the_result(family, batch, keep):
    """But for the order in which flash attention adds up."""
    _, there = both(family, "a")
    expected, gradient = passed(*there, batch(), "a")
    layers = there[1].num_layers
    for levels in ([keep] * layers, [keep, *[Keep.ALL] * (layers - 2), keep]):
        losses, found = passed(*there, batch(), "a", keep=levels)
        assert torch.allclose(losses, expected, rtol=1e-3, atol=1e-3)
        assert off(found, gradient) < 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_several_adapters_at_once_equal_each_alone(family):
    names = ("a", "b", "c")
    _, (model, decoder) = both(family, *names)
    packs = [packed(texts(*lengths, seed=i)) for i, lengths in enumerate([(90, 41), (300,), (7, 64, 33)])]
    ends = list(itertools.accumulate(p.num_tokens for p in packs))
    spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
    whole, _ = join(packs)
    losses, *found = passed(model, decoder, whole, *names, routing=Routing(names, spans))
    parts = losses.split([p.num_targets for p in packs])
    for name, batch, part, gradient in zip(names, packs, parts, found, strict=True):
        expected, alone = passed(model, decoder, batch, name)
        assert torch.allclose(part, expected, rtol=0, atol=0.1)
        share = batch.num_targets / whole.num_targets
        assert off(gradient, {key: g * share for key, g in alone.items()}) < 0.03


def test_dropout_draws_the_same_masks_when_a_block_is_computed_again():
    _, (model, decoder) = both("llama", "a", dropout=0.3)
    batch = segments()
    draws = tuple((a, b, i) for i, (a, b) in enumerate(itertools.pairwise(batch.layout.offsets)))
    routing = Routing(("a",), ((0, batch.num_tokens),), (draws,))
    expected, gradient = passed(model, decoder, batch, "a", routing=routing)
    losses, found = passed(model, decoder, batch, "a", routing=routing, keep=[Keep.INPUT] * 3)
    assert torch.allclose(losses, expected, rtol=1e-3, atol=1e-3)
    assert off(found, gradient) < 0.02
    plain, _ = passed(*both("llama", "a")[1], batch, "a")
    assert not torch.allclose(plain, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("keep_transposed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp8_on_the_gpu_against_fp8_on_the_cpu(family, keep_transposed):
    def make(weight, bias):
        return Fp8Frozen.make(weight, bias, keep_transposed=keep_transposed)

    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    here, there = both(family, "a", make=make)
    for batch in (segments(), shared_prefix(), few_targets()):
        expected, gradient = passed(*here, batch, "a")
        losses, found = passed(*there, batch, "a")
        assert losses.mean().item() == pytest.approx(expected.mean().item(), rel=5e-3)
        assert off(found, gradient) < 0.4  # of one matrix: activations are rounded to 3 bits on both sides
        whole, other = (torch.cat([g.flatten() for g in one.values()]) for one in (found, gradient))
        assert (whole - other).norm() < 0.15 * other.norm()


def examples(count, prompt, target, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def ids(size):
        return tuple(torch.randint(3, VOCABULARY, (size,), generator=generator).tolist())

    return [Encoded(ids(prompt), ids(target)) for _ in range(count)]


def jobs_of(model, *names, **training):
    config = TrainingConfig(**{"epochs": 2, "batch_size": 64, "checkpoint_every_s": 0.0, **training})
    return [TrainJob(n, trainable(model, n), config, rate=1e-3, seed=i) for i, n in enumerate(names)]


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_a_replayed_graph_equals_a_plain_pass(family, batch, names):
    """Run, recorded, replayed; with other texts of the same shape, differently shared out, in between."""
    _, (model, decoder) = both(family, *names)
    plain = batch()
    others = replace(plain, input_ids=plain.input_ids.flip(0))
    rows, expected = [], []
    for one, cut in ((plain, plain.num_tokens // 2), (others, plain.num_tokens // 3)):
        spans = ((0, plain.num_tokens),) if len(names) == 1 else ((0, cut), (cut, plain.num_tokens))
        routing = Routing(names, spans)
        expected.append(passed(model, decoder, one, *names, routing=routing))
        scales = torch.full((plain.num_targets,), 1 / plain.num_targets, dtype=torch.float64)
        rows.append(FixedRow.make(one, routing, scales, names))
    decoder.use(names)
    for row, (right, *gradient) in zip(rows * 2, expected * 2, strict=True):
        losses = decoder.replayed_losses(row).cpu()
        decoder.give_gradients()
        found = [{key: g.cpu() for key, g in gradients(model, name).items()} for name in names]
        clear(model, *names)
        assert torch.allclose(losses, right, rtol=1e-3, atol=1e-2)
        for one, other in zip(found, gradient, strict=True):
            assert off(one, other) < 0.02
    assert decoder.release()
    assert not decoder.release()


def test_a_training_with_graphs_equals_one_without():
    """Several micro-batches a step, of changing shapes."""
    found = []
    for replays in (True, False):
        model = with_adapters(some_model("llama"), "a").to(DEVICE)
        decoder = Decoder(model)
        (job,) = jobs_of(model, "a", batch_size=8, epochs=6)
        texts = examples(24, 40, 20) + examples(8, 90, 30, seed=1)
        room = Room(300, replays=replays)
        losses = [train_step(decoder, [job], texts, room)[0].loss for _ in range(24)]
        found.append(losses)
    assert found[0] == pytest.approx(found[1], rel=5e-3)


def test_a_row_is_lengthened_without_changing_the_step():
    """A length that is no multiple of cuDNN's step."""
    (one,) = examples(1, CUDNN_FROM + CUDNN_STEP // 2, 60)
    model = with_adapters(some_model("llama"), "a").to(DEVICE)
    decoder = Decoder(model)
    (job,) = jobs_of(model, "a", batch_size=1)
    ids = torch.tensor([*one.prompt_ids, *one.target_ids])
    layout, places = Layout((0, len(ids))), torch.arange(len(one.prompt_ids) - 1, len(ids) - 1)
    batch = PackedBatch(ids, torch.tensor(layout.positions()), layout, places, ids[places + 1])
    expected, gradient = passed(model, decoder, batch, "a")
    norm = torch.sqrt(sum(g.double().square().sum() for g in gradient.values())).item()
    (stats,) = train_step(decoder, [job], [one], Room(10_000))
    assert stats.num_tokens == len(ids)  # padding is not counted
    assert stats.loss == pytest.approx(expected.mean().item(), rel=1e-3)
    assert stats.grad_norm == pytest.approx(norm, rel=1e-2)


def test_a_checkpoint_is_taken_up_on_the_gpu(tmp_path):
    asked = examples(8, 40, 6)
    model = with_adapters(some_model("llama"), "a", "b").to(DEVICE)
    decoder = Decoder(model)
    job, other = jobs_of(model, "a", "b", batch_size=4)
    for _ in range(2):
        train_step(decoder, [job], asked, Room(1000))
    write_checkpoint(tmp_path, 2, job.tensors(), {"step": 2})
    checkpoint = read_checkpoint(tmp_path)
    (again,) = jobs_of(model, "a", batch_size=4)
    again.restore(checkpoint.tensors, checkpoint.state["step"])
    assert {v.device.type for s in again.optimizer.state.values() for v in s.values()} == {"cuda"}
    (stats,) = train_step(decoder, [again], asked, Room(1000))
    assert stats.step == 3
    assert all(p.isfinite().all() for p in again.parameters.values())
    assert other.step == 0


# --- memory ---

BIG = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}
CAPPED = """
import sys
import torch
from tests.gpu.test_decoder_gpu import BIG, DEVICE, examples, jobs_of, some_model, with_adapters
from tenbin.decoder.decoder import Decoder
from tenbin.device import find_device
from tenbin.train.room import Room
from tenbin.train.step import train_step

cap_mib = int(sys.argv[1])
device = find_device()
device.cap(cap_mib)
model = with_adapters(some_model("llama", **BIG), "a").to(DEVICE)
(job,) = jobs_of(model, "a", batch_size=8)
# So that all libraries hold what they need:
train_step(Decoder(model), [job], examples(8, 200, 50), Room(2000))
model.generate(torch.ones(4, 100, dtype=torch.int64, device=DEVICE), max_new_tokens=2, do_sample=False)
held, refused = [], False
for _ in range(100_000):
    try:
        held.append(torch.empty(2**20, dtype=torch.uint8, device=DEVICE))
    except torch.OutOfMemoryError:
        refused = True
        break
assert refused, "the cap was never reached"
free, total = torch.cuda.mem_get_info()
print((total - free) // 2**20, round(device.peak_mib()))
"""


def test_the_cap_holds_for_all_that_the_driver_shows():
    """A process that takes whatever it gets, one MiB at a time."""
    free, total = torch.cuda.mem_get_info()
    before = (total - free) // MIB  # of this process and others
    cap = 4000
    done = subprocess.run(
        [sys.executable, "-c", CAPPED, str(cap)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, said = map(int, done.stdout.split())
    used = shown - before
    assert used <= cap
    assert used >= 0.85 * cap  # the cap is what stopped it, not something else
    assert said == pytest.approx(used, rel=0.05)


def big_training(folder, room):
    """Two steps of 64 examples of 512 tokens: about 6 GiB where everything is kept."""
    model = with_adapters(some_model("llama", **BIG), "a").to(DEVICE)
    jobs = jobs_of(model, "a", batch_size=64, epochs=1)
    runs = trainings(folder, jobs)
    (progress,) = train(Decoder(model), runs, examples(128, 400, 112), room)
    return jobs[0], progress, Run(folder / "a", runs[0].run.spec).events()


def test_a_step_that_does_not_fit_is_done_again_with_less(tmp_path, capped):
    straight, expected, quiet = big_training(tmp_path / "straight", Room(40_000, longest=512))
    assert not [e for e in quiet if e["event"] == "memory"]
    straight = {name: p.detach().cpu() for name, p in straight.parameters.items()}
    capped(3500)
    room = Room(40_000, longest=512)
    job, progress, events = big_training(tmp_path / "small", room)
    assert [e for e in events if e["event"] == "memory"]
    assert room.most_tokens < 32_768
    assert torch.cuda.max_memory_reserved() <= 3500 * MIB - CUDA_CONTEXT_BYTES
    assert (progress.num_examples, progress.num_tokens) == (expected.num_examples, expected.num_tokens)
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert losses == pytest.approx([e["loss"] for e in quiet if e["event"] == "step"], rel=2e-3)
    before = trainable(with_adapters(some_model("llama", **BIG), "a"), "a")
    for name, p in job.parameters.items():  # the first steps of AdamW are as long for a gradient near zero
        moved = (straight[name] - before[name]).norm()
        assert (p.detach().cpu() - straight[name]).norm() < 0.5 * moved, name


def test_nothing_is_left_to_give_up(tmp_path, capped):
    """The weights fit, one example does not."""
    capped(1300)
    with pytest.raises(BudgetError, match="does not fit the device"):
        big_training(tmp_path, Room(40_000, longest=30_000))
