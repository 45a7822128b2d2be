"""Too little memory: which errors say so, and trainings that run out of it anywhere = undisturbed ones."""

import os
import signal

import pytest
import torch
from tests.train.training import (
    NAMES,
    SPEC,
    PlayedBack,
    assert_near,
    hooks,
    tiny_examples,
    tiny_job,
    tiny_jobs,
    trainings,
    whole_training,
    with_graphs,
    without_graphs,
)

from tenbin.decoder import decoder as decoder_module
from tenbin.decoder.block import Keep
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.linear import LinearGroup
from tenbin.decoder.shortage import is_shortage
from tenbin.errors import BudgetError, Interrupted
from tenbin.memory import KeepLevels
from tenbin.runs import Run
from tenbin.train import engine
from tenbin.train.engine import train
from tenbin.train.job import TrainJob
from tenbin.train.room import Room

DROPOUT = [0.0, 0.2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["allocator", "driver", "cublas", "cudnn", "cpu"],
)
def test_less_memory_would_help(error):
    assert is_shortage(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        ValueError("out of memory"),
        KeyboardInterrupt(),
    ],
    ids=["shapes", "illegal", "value", "stop"],
)
def test_less_memory_would_not_help(error):
    assert not is_shortage(error)


def test_what_this_machine_says_itself():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_shortage(raised.value)


def limited(decoder, most_tokens=10**9, most_kept=Keep.ALL):
    """The decoder with a device that has not enough memory; the failed pass leaves its gradients behind."""
    inner, failures = decoder.losses, []

    def losses(batch, routing=None, *, scales=None, keep=None):
        found = inner(batch, routing, scales=scales, keep=keep)
        if batch.num_tokens > most_tokens or max(keep or [Keep.INPUT]) > most_kept:
            failures.append(batch.num_tokens)
            raise torch.OutOfMemoryError("made up")
        return found

    decoder.losses = losses
    return failures


def some_levels(*token_bytes):
    """With room for everything."""
    return KeepLevels(
        num_layers=2, token_bytes=token_bytes, room_bytes=2**40, transient_bytes=0, wide_bytes=0
    )


def memory_events(folder):
    return [e for e in Run(folder, SPEC).events() if e["event"] == "memory"]


@pytest.mark.parametrize(("names", "most"), [(("a",), 25), (NAMES, 60)])
@pytest.mark.parametrize("dropout", DROPOUT)
def test_what_does_not_fit_is_done_again_in_smaller_micro_batches(tmp_path, names, most, dropout):
    setting = {"names": names, "dtype": torch.float64, "dropout": dropout}
    straight, expected = whole_training(tmp_path / "straight", most_tokens=400, **setting)
    decoder, jobs = tiny_jobs(**setting)
    failures = limited(decoder, most)
    room = Room(400, longest=max(map(len, tiny_examples())))
    progress = train(decoder, trainings(tmp_path / "small", jobs), tiny_examples(), room)
    assert failures
    assert room.most_tokens < min(failures)
    for job, other, done, wanted in zip(straight, jobs, progress, expected, strict=True):
        assert_near(job, other)
        assert (done.num_examples, done.num_tokens) == (wanted.num_examples, wanted.num_tokens)
        events = memory_events(tmp_path / "small" / job.name)
        assert len(events) == len(failures)  # said once a change
        assert len({e["retried_with"] for e in events}) == len(events)
        assert not memory_events(tmp_path / "straight" / job.name)


def fails_once(monkeypatch, owner, name, at, *, before=True, error=None):
    """In its `at`-th call within the steps of a training, which it begins or has ended by then.

    Returns:
        How often it was called so far, in a list of one.
    """
    inner, step, count, within = getattr(owner, name), engine._step, [0], False
    error = error or torch.OutOfMemoryError("made up")

    def fails(*args, **kwargs):
        counts = within and not PlayedBack.playing
        count[0] += counts
        if counts and count[0] == at and before:
            raise error
        found = inner(*args, **kwargs)
        if counts and count[0] == at:
            raise error
        return found

    def stepping(*args):
        nonlocal within
        within = True
        try:
            return step(*args)
        finally:
            within = False

    monkeypatch.setattr(owner, name, fails)
    monkeypatch.setattr(engine, "_step", stepping)
    return count


DRIVER = RuntimeError("CUDA error: out of memory")
BEFORE_AND_AFTER = [
    (LinearGroup, "use"),
    (LinearGroup, "backward"),
    (Decoder, "refresh"),
    (Decoder, "give_gradients"),
    (decoder_module, "cross_entropy"),
    (TrainJob, "clip"),
]
ONLY_BEFORE = [(TrainJob, "set_rate"), (TrainJob, "update")]
"""Nothing in them takes memory: an error can only be one that was on its way before."""
PLACES = [
    *((*place, before) for place in BEFORE_AND_AFTER for before in (True, False)),
    *((*place, True) for place in ONLY_BEFORE),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Two adapters in float64, nine steps: (jobs, their progress)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return whole_training(folder, tiny_examples(9), 400, NAMES[:2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("at", "graphs", "beside"),
    [(3, False, True), (2, True, True), (3, True, False)],
    ids=["beside", "graphs-beside", "graphs-waiting"],
)
@pytest.mark.parametrize(
    ("owner", "name", "before"), PLACES, ids=[f"{name}-{'before' if b else 'after'}" for _, name, b in PLACES]
)
def test_wherever_a_step_runs_out_of_memory_nothing_of_it_counts(
    tmp_path, monkeypatch, undisturbed, owner, name, before, at, graphs, beside
):
    """Once, in a step of two adapters; while the step before is under way or not."""
    straight, expected = undisturbed
    if graphs:
        with_graphs(monkeypatch)
    monkeypatch.setattr(engine, "_works_beside", lambda decoder: beside)
    error = DRIVER if graphs else None
    count = fails_once(monkeypatch, owner, name, at, before=before, error=error)
    jobs, progress = whole_training(tmp_path / "short", tiny_examples(9), 400, NAMES[:2], dtype=torch.float64)
    assert count[0] >= at
    for job, other, done, wanted in zip(straight, jobs, progress, expected, strict=True):
        assert_near(job, other)
        assert done.num_examples == wanted.num_examples
        losses = [e.train_loss for e in wanted.epochs]
        assert [e.train_loss for e in done.epochs] == pytest.approx(losses, rel=1e-9)
        events = Run(tmp_path / "short" / job.name, SPEC).events()
        assert [e["step"] for e in events if e["event"] == "step"] == list(range(1, 10))
        assert len(memory_events(tmp_path / "short" / job.name)) <= 1


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("at", [2, 3, 4])
def test_an_adapter_that_took_its_step_does_not_take_it_twice(tmp_path, monkeypatch, undisturbed, at, graphs):
    """The memory runs out between the optimizers of a step: all is done again with the first, else none."""
    straight, _ = undisturbed
    if graphs:
        with_graphs(monkeypatch)
    count = fails_once(monkeypatch, TrainJob, "update", at)
    jobs, _ = whole_training(tmp_path / "short", tiny_examples(9), 400, NAMES[:2], dtype=torch.float64)
    assert count[0] > at
    for job, other in zip(straight, jobs, strict=True):
        assert_near(job, other)
        assert other.optimizer.state[next(iter(other.parameters.values()))]["step"] == 9


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("dropout", DROPOUT)
def test_out_of_memory_then_stopped_then_resumed_equals_undisturbed(tmp_path, monkeypatch, dropout, graphs):
    """In float64, with two adapters: memory runs out in steps of every attempt, and each is interrupted."""
    setting = {"names": NAMES[:2], "dtype": torch.float64, "dropout": dropout}
    straight, expected = whole_training(tmp_path / "straight", most_tokens=400, **setting)
    if graphs:
        with_graphs(monkeypatch)
    monkeypatch.setattr(engine, "_works_beside", lambda decoder: True)
    inner, calls, stops = Decoder.losses, 0, 0

    def losses(*args, **kwargs):
        nonlocal calls
        calls += 1
        found = inner(*args, **kwargs)
        if calls in (2, 6, 7, 11):
            raise torch.OutOfMemoryError("made up")
        return found

    monkeypatch.setattr(Decoder, "losses", losses)
    examples = tiny_examples()
    while True:
        decoder, jobs = tiny_jobs(**setting)
        said = []

        def stop_after_three(stats, said=said):
            said.append(stats.step)
            if len(said) % 3 == 0:
                os.kill(os.getpid(), signal.SIGINT)

        runs = trainings(tmp_path / "short", jobs, lambda: hooks(on_step=stop_after_three))
        room = Room(400, some_levels(0, 1, 2, 3, 4), longest=max(map(len, examples)))
        try:
            progress = train(decoder, runs, examples, room)
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    assert calls > 11
    for job, other, done, wanted in zip(straight, jobs, progress, expected, strict=True):
        assert_near(job, other)
        losses = [e.train_loss for e in wanted.epochs]
        assert [e.train_loss for e in done.epochs] == pytest.approx(losses, rel=1e-9)
        assert (done.num_examples, done.num_tokens) == (wanted.num_examples, wanted.num_tokens)


def test_a_graph_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    """The driver has no room for what a graph launches; the allocator's cap knows nothing of it."""
    setting = {"names": NAMES[:2], "dtype": torch.float64}
    straight, _ = whole_training(tmp_path / "straight", **setting)

    gone_to = without_graphs(monkeypatch)
    jobs, _ = whole_training(tmp_path / "short", **setting)
    for job, other in zip(straight, jobs, strict=True):
        assert_near(job, other)
        said = [e["retried_with"] for e in memory_events(tmp_path / "short" / job.name)]
        assert said == ["no CUDA graphs, which hold on to memory"]
    assert gone_to == [1]  # the one tried again needs the memory of the usual stream


def test_an_error_of_another_kind_is_not_tried_again(tmp_path, monkeypatch):
    fails_once(monkeypatch, LinearGroup, "backward", 3, error=RuntimeError("illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal"):
        whole_training(tmp_path)
    assert not memory_events(tmp_path / "a")


def test_adapters_whose_longest_examples_do_not_fit_together_pass_one_after_another(tmp_path):
    """The device has room for one long example: nothing has to be tried again."""
    setting = {"names": NAMES, "dtype": torch.float64}
    longest = max(map(len, tiny_examples()))
    straight, _ = whole_training(tmp_path / "straight", most_tokens=400, **setting)
    decoder, jobs = tiny_jobs(**setting)
    failures = limited(decoder, longest)
    train(decoder, trainings(tmp_path / "small", jobs), tiny_examples(), Room(longest, longest=longest))
    assert not failures
    for job, other in zip(straight, jobs, strict=True):
        assert_near(job, other)


def test_when_micro_batches_are_as_small_as_they_get_less_is_kept(tmp_path):
    (straight,), _ = whole_training(tmp_path / "straight", dtype=torch.float64)
    decoder, job = tiny_job(dtype=torch.float64)
    failures = limited(decoder, most_kept=Keep.INPUT)
    room = Room(40, some_levels(8, 800, 2000, 3000, 5000), longest=max(map(len, tiny_examples())))
    train(decoder, trainings(tmp_path / "small", [job]), tiny_examples(), room)
    assert_near(straight, job)
    said = [e["retried_with"] for e in memory_events(tmp_path / "small" / "a")]
    assert len(said) == len(failures) == len(set(said))
    assert said[0].startswith("micro-batches")
    assert said[-1].startswith("less kept for the backward pass: blocks: ")
    assert max(room.keep(room.longest)) <= Keep.INPUT


@pytest.mark.parametrize("levels", [None, "some"])
def test_when_nothing_is_left_to_give_up_the_training_says_so(tmp_path, levels):
    decoder, job = tiny_job(batch_size=13)
    before = {name: p.detach().clone() for name, p in job.parameters.items()}
    longest = max(map(len, tiny_examples()))
    limited(decoder, longest - 1)
    if levels is not None:
        levels = some_levels(0, 1, 2, 3, 4)
    room = Room(400, levels, longest=longest)
    runs = trainings(tmp_path, [job])
    with pytest.raises(BudgetError, match=f"a micro-batch of {longest} tokens does not fit"):
        train(decoder, runs, tiny_examples(), room)
    assert job.step == 0
    assert all(torch.equal(p, before[name]) for name, p in job.parameters.items())
    assert all(p.grad is None for p in job.parameters.values())
