"""The training loop against plain PyTorch, across micro-batches, and across interruptions."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.models.tiny import FAMILIES
from tests.train.training import SPEC, hooks, tiny_examples, tiny_job, validation, whole_training

from tenbin.errors import Interrupted
from tenbin.models.lora import set_micro_batch
from tenbin.runs import EpochRecord, Run
from tenbin.train.checkpoint import read_checkpoint
from tenbin.train.engine import best_epoch, pack_loss, train, train_step
from tenbin.train.job import scheduled_rate
from tenbin.train.packing import pack


def gradients(job):
    return {name: p.grad.clone() for name, p in job.parameters.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_packed_loss_and_gradients_equal_transformers_one_by_one(family, loss_on):
    examples = tiny_examples(5)
    model, job = tiny_job(family, torch.float64)
    for p in job.parameters.values():
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(1))
    pack_loss(model, pack(examples, loss_on)).backward()
    ours = gradients(job)
    job.optimizer.zero_grad()
    total = 0.0
    model.set_attn_implementation("eager")
    for example in examples:
        ids = torch.tensor([[*example.prompt_ids, *example.target_ids]])
        labels = ids.clone()
        if loss_on == "response":
            labels[:, : len(example.prompt_ids)] = -100
        num = int((labels[:, 1:] != -100).sum())
        loss = model(ids, labels=labels, use_cache=False).loss * num  # transformers gives the mean
        loss.backward()
        total += loss.item()
    theirs = gradients(job)
    with torch.no_grad():
        model.set_attn_implementation("tenbin")
        assert pack_loss(model, pack(examples, loss_on)).item() == pytest.approx(total, rel=1e-6)
    for name, gradient in ours.items():
        # transformers computes its loss in float32 even for a float64 model
        assert torch.allclose(gradient, theirs[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("most_tokens", [1, 25, 60])
def test_the_micro_batch_does_not_change_the_step(most_tokens):
    examples = tiny_examples()
    one, job_one = tiny_job(dtype=torch.float64)
    many, job_many = tiny_job(dtype=torch.float64)
    for _ in range(3):
        a = train_step(one, job_one, examples, 10_000)
        b = train_step(many, job_many, examples, most_tokens)
        assert a.loss == pytest.approx(b.loss, rel=1e-5)  # the loss is summed in float32
        assert (a.num_targets, a.num_tokens) == (b.num_targets, b.num_tokens)
    for name, parameter in job_one.parameters.items():
        assert torch.allclose(parameter, job_many.parameters[name], rtol=0, atol=1e-9), name


def test_the_gradient_is_that_of_the_mean_over_all_targets_of_the_step():
    examples = tiny_examples(4)
    model, job = tiny_job(dtype=torch.float64, batch_size=4, max_grad_norm=None)
    total = pack_loss(model, pack(examples, "response"))
    num = sum(len(e.target_ids) for e in examples)
    (total / num).backward()
    expected = gradients(job)
    norm = torch.sqrt(sum((g**2).sum() for g in expected.values())).item()
    job.optimizer.zero_grad()
    assert train_step(model, job, examples, 12).grad_norm == pytest.approx(norm, rel=1e-9)


def test_every_example_is_trained_once_an_epoch():
    _, job = tiny_job(batch_size=4)
    seen = [i for step in range(job.steps_per_epoch(13)) for i in job.batch(13, step)]
    assert sorted(seen) == list(range(13))
    again = [i for step in range(4, 8) for i in job.batch(13, step)]
    assert sorted(again) == list(range(13))
    assert again != seen


def test_the_schedule():
    rates = [scheduled_rate(s, 10, 1.0, "linear", 0.2) for s in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == pytest.approx(1 / 8)
    assert scheduled_rate(9, 10, 1.0, "constant", 0.0) == 1.0
    assert scheduled_rate(5, 10, 1.0, "cosine", 0.0) == pytest.approx(0.5)


def same(job_a, job_b):
    return all(torch.equal(p, job_b.parameters[name]) for name, p in job_a.parameters.items())


def test_training_lowers_the_loss(tmp_path):
    model, job = tiny_job(epochs=12, rate=5e-2)
    run = Run(tmp_path, SPEC)
    run.start({})
    values = [0.0] * 12
    progress = train(model, job, tiny_examples(), run=run, most_tokens=40, hooks=hooks(values))
    losses = [e.train_loss for e in progress.epochs]
    assert losses[-1] < losses[0] * 0.9


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, dropout):
    straight, progress = whole_training(tmp_path / "straight", dropout=dropout)
    folder = tmp_path / "stopped"
    Run(folder, SPEC).start({})
    stops = 0
    while True:
        model, job = tiny_job(dropout=dropout)

        def stop_after_two(stats, first=[]):  # noqa: B006
            first.append(stats.step)
            if len(first) % 2 == 0:
                os.kill(os.getpid(), signal.SIGINT)

        try:
            resumed = train(
                model,
                job,
                tiny_examples(),
                run=Run(folder, SPEC),
                most_tokens=40,
                hooks=hooks(on_step=stop_after_two),
            )
            break
        except Interrupted:
            stops += 1
    assert stops >= 5
    assert same(straight, job)
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in progress.epochs]
    assert (resumed.num_tokens, resumed.num_examples) == (progress.num_tokens, progress.num_examples)


KILLED = """
import os, sys
from pathlib import Path
from tests.train.training import SPEC, hooks, tiny_examples, tiny_job
from tenbin.runs import Run
import tenbin.train.engine as engine
import tenbin.train.checkpoint as checkpoint

folder, where, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0

def die_at(*args, **kwargs):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), 9)

if where == "step":      # within a step: after the forward of a micro-batch
    inner = engine.pack_loss
    engine.pack_loss = lambda *a: (die_at(), inner(*a))[1]
elif where == "write":   # within the writing of a checkpoint
    inner_save = checkpoint.save_file
    checkpoint.save_file = lambda *a: (inner_save(*a), die_at())[0]
elif where == "flush":   # when it is written but not yet named
    inner_flush = checkpoint._flush
    checkpoint._flush = lambda *a: (inner_flush(*a), die_at())[0]
model, job = tiny_job(dropout=0.1)
values = hooks()
run = Run(folder, SPEC)
run.start({})
engine.train(model, job, tiny_examples(), run=run, most_tokens=40, hooks=values)
"""


@pytest.mark.parametrize(
    ("where", "at"), [("step", 5), ("step", 12), ("write", 3), ("flush", 8), ("flush", 9)]
)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, where, at):
    straight, _ = whole_training(tmp_path / "straight", dropout=0.1)
    folder = tmp_path / "killed"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, folder, where, str(at)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    model, job = tiny_job(dropout=0.1)
    train(model, job, tiny_examples(), run=Run(folder, SPEC), most_tokens=40, hooks=hooks())
    assert same(straight, job)
    assert not list((folder / "checkpoint").glob(".writing-*")) or read_checkpoint(folder / "checkpoint")


def test_dropout_draws_other_masks_in_every_micro_batch():
    model, _ = tiny_job(dropout=0.5)
    from tenbin.models.lora import lora_layers

    layer = next(layer for _, layer in lora_layers(model))
    layer.training = True
    x = torch.ones(4, layer.in_features)
    set_micro_batch(model, 1)
    first = layer._dropped(x, "a")
    set_micro_batch(model, 2)
    assert not torch.equal(first, layer._dropped(x, "a"))
    set_micro_batch(model, 1)
    assert torch.equal(first, layer._dropped(x, "a"))


def record(epoch, value):
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        train_loss=1.0,
        validation=validation(value) if value != "no" else None,
        seconds=0,
    )


def test_the_best_epoch_is_the_first_of_the_best():
    assert best_epoch([record(1, 0.2), record(2, 0.5), record(3, 0.5)]) == 2
    assert best_epoch([record(1, None), record(2, 0.1)]) == 2
    assert best_epoch([record(1, "no"), record(2, "no")]) == 2


def test_the_best_epochs_are_kept(tmp_path):
    kept = []
    model, job = tiny_job()
    run = Run(tmp_path, SPEC)
    run.start({})
    train(model, job, tiny_examples(), run=run, most_tokens=40, hooks=hooks((0.1, 0.3, 0.2), kept))
    assert kept == [1, 2]
    steps = [e for e in run.events() if e["event"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 13))
