"""The training loop: interrupted = uninterrupted, and several adapters = each alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.train.training import (
    NAMES,
    SPEC,
    asked_examples,
    assert_near,
    hooks,
    same,
    tiny_examples,
    tiny_job,
    trainings,
    validation,
    whole_training,
)

from tenbin.errors import Interrupted
from tenbin.runs import EpochRecord, Run
from tenbin.train import engine
from tenbin.train.checkpoint import read_checkpoint
from tenbin.train.engine import best_epoch, train
from tenbin.train.room import Room

DROPOUT = [0.0, 0.2]


def test_training_lowers_the_loss(tmp_path):
    decoder, job = tiny_job(epochs=12, rates=(5e-2,) * 3, checkpoint_every_s=1e9)
    values = [0.0] * 12
    runs = trainings(tmp_path, [job], lambda: hooks(values))
    (progress,) = train(decoder, runs, tiny_examples(), Room(40))
    losses = [e.train_loss for e in progress.epochs]
    assert losses[-1] < losses[0] * 0.9


@pytest.mark.parametrize("dropout", DROPOUT)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, dropout):
    (straight,), (progress,) = whole_training(tmp_path / "straight", dropout=dropout)
    stops = 0
    while True:
        decoder, job = tiny_job(dropout=dropout)

        def stop_after_two(stats, first=[]):  # noqa: B006
            first.append(stats.step)
            if len(first) % 2 == 0:
                os.kill(os.getpid(), signal.SIGINT)

        runs = trainings(tmp_path / "stopped", [job], lambda: hooks(on_step=stop_after_two))
        try:
            (resumed,) = train(decoder, runs, tiny_examples(), Room(40))
            break
        except Interrupted:
            stops += 1
    assert stops >= 5
    assert same(straight, job)
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in progress.epochs]
    assert (resumed.num_tokens, resumed.num_examples) == (progress.num_tokens, progress.num_examples)


KILLED = """
import json, os, sys
from pathlib import Path
from tests.train.training import asked_examples, tiny_examples, tiny_jobs, trainings
from tenbin.train.room import Room
import torch
import transformers.models.llama.modeling_llama
import tenbin.train.engine as engine
import tenbin.train.checkpoint as checkpoint

count = 0

def die_at(at):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), 9)

def run(folder, where, at, names, dtype, dropout):
    decoder, jobs = tiny_jobs(names, dtype=getattr(torch, dtype), dropout=dropout)
    if where == "step":      # within a step: when a micro-batch has gathered its gradients
        inner = decoder.losses
        decoder.losses = lambda *a, **k: (inner(*a, **k), die_at(at))[0]
    elif where == "write":   # within the writing of a checkpoint
        inner_save = checkpoint.save_file
        checkpoint.save_file = lambda *a: (inner_save(*a), die_at(at))[0]
    elif where == "flush":   # when it is written but not yet named
        inner_flush = checkpoint._flush
        checkpoint._flush = lambda *a: (inner_flush(*a), die_at(at))[0]
    examples = tiny_examples() if len(jobs) == 1 else asked_examples()
    engine.train(decoder, trainings(Path(folder), jobs), examples, Room(40))

for case in json.loads(sys.argv[1]):  # one start of torch for all; nothing was computed before the fork
    child = os.fork()
    if not child:
        run(**case)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""
WHERE = [("step", 5), ("step", 12), ("write", 3), ("flush", 8), ("flush", 9)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Trainings killed at different places: the folder of each."""
    folder = tmp_path_factory.mktemp("killed")
    cases = {}
    for where, at in WHERE:
        one = {"where": where, "at": at, "names": ["a"], "dtype": "float32", "dropout": 0.1}
        cases[where, at] = one | {"folder": str(folder / f"{where}-{at}")}
    for dropout in DROPOUT:
        several = {"where": "write", "at": 8, "names": NAMES, "dtype": "float64", "dropout": dropout}
        cases[dropout] = several | {"folder": str(folder / f"several-{dropout}")}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(list(cases.values()))],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        text=True,
    )
    assert [int(line) for line in done.stdout.split()] == [signal.SIGKILL] * len(cases), done.stderr
    return {key: Path(case["folder"]) for key, case in cases.items()}


@pytest.mark.parametrize(("where", "at"), WHERE)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, killed, where, at):
    (straight,), _ = whole_training(tmp_path / "straight", dropout=0.1)
    (job,), _ = whole_training(killed[where, at], dropout=0.1)
    assert same(straight, job)
    assert read_checkpoint(killed[where, at] / "a" / "checkpoint").state["step"] == job.step


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize("make", [tiny_examples, asked_examples], ids=["apart", "asked"])
def test_several_adapters_at_once_equal_each_alone(tmp_path, dropout, make):
    """Three learning rates, seeds and ranks over a whole training, with its epochs and checkpoints."""
    setting = {"dtype": torch.float64, "dropout": dropout, "examples": make(), "checkpoint_every_s": 1e9}
    together, progress = whole_training(tmp_path / "together", names=NAMES, **setting)
    for name, job, done in zip(NAMES, together, progress, strict=True):
        (alone,), (expected,) = whole_training(tmp_path / "alone", names=[name], **setting)
        assert_near(job, alone)
        losses = [e.train_loss for e in expected.epochs]
        assert [e.train_loss for e in done.epochs] == pytest.approx(losses, rel=1e-9)
        assert [e.validation for e in done.epochs] == [e.validation for e in expected.epochs]
        assert done.num_examples == expected.num_examples
        saved, own = (
            read_checkpoint(tmp_path / folder / name / "checkpoint") for folder in ("together", "alone")
        )
        assert saved.state["step"] == own.state["step"] == job.step
        assert saved.tensors.keys() == own.tensors.keys()
        for key, value in saved.tensors.items():
            assert torch.allclose(value, own.tensors[key], rtol=1e-7, atol=1e-9), key


@pytest.mark.parametrize("dropout", DROPOUT)
def test_adapters_killed_between_two_checkpoints_catch_up(tmp_path, killed, dropout):
    """The first adapter's checkpoint of a step is there, those of the others are of the step before."""
    setting = {"dtype": torch.float64, "dropout": dropout, "examples": asked_examples(), "names": NAMES}
    straight, _ = whole_training(tmp_path / "straight", **setting)
    folder = killed[dropout]
    steps = [read_checkpoint(folder / name / "checkpoint").state["step"] for name in NAMES]
    assert steps == [3, 2, 2]
    resumed, progress = whole_training(folder, **setting)
    for job, other, done in zip(straight, resumed, progress, strict=True):
        assert_near(job, other)
        assert done.num_examples == 3 * len(setting["examples"])
        events = Run(folder / job.name, SPEC).events()
        assert [e["step"] for e in events if e["event"] == "resumed"] == [3 if job.name == "a" else 2]


def test_a_stop_asked_for_between_two_looks_saves_what_was_counted(tmp_path, monkeypatch):
    """Ctrl-C comes when it was already seen that nobody had asked: the step under way still counts."""

    class Late:
        looks = 0

        @property
        def asked(self):
            self.looks += 1
            return self.looks == 6  # the second look of the third round

    monkeypatch.setattr(engine, "_Stop", Late)
    decoder, job = tiny_job(checkpoint_every_s=1e9)
    runs = trainings(tmp_path, [job])
    with pytest.raises(Interrupted):
        train(decoder, runs, tiny_examples(), Room(40))
    state = read_checkpoint(tmp_path / "a" / "checkpoint").state
    assert state["step"] == 2
    assert state["progress"]["num_examples"] == 8


def test_a_step_is_said_when_it_is_done_on_a_cpu(tmp_path, monkeypatch):
    """Not when the next one is done: a step may take a minute."""
    said, begun = [], []
    inner = engine.begin_step

    def begin(decoder, jobs, *args):
        begun.append((jobs[0].step, list(said)))
        return inner(decoder, jobs, *args)

    monkeypatch.setattr(engine, "begin_step", begin)
    decoder, job = tiny_job(epochs=1)
    train(
        decoder,
        trainings(tmp_path, [job], lambda: hooks(on_step=lambda stats: said.append(stats.step))),
        tiny_examples(),
        Room(40),
    )
    assert begun == [(n, list(range(1, n + 1))) for n in range(4)]


def test_a_decoder_that_others_used_takes_the_restored_weights(tmp_path):
    """The same jobs, taken back to an older checkpoint, are not trained with what was in use before."""
    decoder, job = tiny_job()
    before = decoder.names, decoder.users
    decoder.use([job.name], [job])
    seen = []

    def on_step(stats):
        seen.append(decoder.users)

    release = decoder.release
    released = []
    decoder.release = lambda: (released.append(decoder.users), release())[1]
    train(decoder, trainings(tmp_path, [job], lambda: hooks(on_step=on_step)), tiny_examples(), Room(40))
    assert before == ((), ())
    assert released[0] == (job,)
    assert all(users == (job,) for users in seen)


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
    decoder, job = tiny_job()
    runs = trainings(tmp_path, [job], lambda: hooks((0.1, 0.3, 0.2), kept))
    train(decoder, runs, tiny_examples(), Room(40))
    assert kept == [1, 2]
    steps = [e for e in runs[0].run.events() if e["event"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 13))
