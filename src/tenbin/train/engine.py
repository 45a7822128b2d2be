"""The training loop: adapters over one frozen base, each validated by what it generates after each epoch."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.shortage import is_shortage
from tenbin.errors import BudgetError, Interrupted, Problem
from tenbin.models.encode import Encoded
from tenbin.runs import EpochRecord, Run, evaluation_from_json
from tenbin.train.checkpoint import read_checkpoint, write_checkpoint
from tenbin.train.job import StepStats, TrainJob
from tenbin.train.room import Room
from tenbin.train.step import Pending, begin_step
from tenbin.types import EvalResult


@dataclass(slots=True)
class Progress:
    """Where a training stands: saved with every checkpoint."""

    epochs: list[EpochRecord] = field(default_factory=list)
    epoch_loss: float = 0.0
    """Sum over the targets of the epoch so far."""
    epoch_targets: int = 0
    epoch_s: float = 0.0
    num_tokens: int = 0
    num_examples: int = 0
    train_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the training asks of the layers above."""

    validate: Callable[[int], EvalResult | None]
    """Epoch -> generative validation; None where there is no validation set."""
    keep: Callable[[int], None]
    """Write the adapter as it is now: this epoch is the best so far."""
    on_step: Callable[[StepStats], None]
    on_shortage: Callable[[str], None] = lambda said: None
    """Hears what a step that ran out of memory is done again with; once, of adapters that train at once."""


@dataclass(slots=True)
class Training:
    """One adapter's training with the run that it is written to."""

    job: TrainJob
    run: Run
    hooks: Hooks
    progress: Progress = field(default_factory=Progress)
    saved_at: float = field(default_factory=time.monotonic)

    def resume(self) -> None:
        """Take up the run's checkpoint, where there is one."""
        checkpoint = read_checkpoint(self.run.path / "checkpoint")
        if checkpoint is not None:
            self.job.restore(checkpoint.tensors, checkpoint.state["step"])
            self.progress = _progress(checkpoint.state["progress"])
            self.run.log("resumed", step=self.job.step)

    def save(self) -> None:
        """Write a checkpoint of the adapter as it is."""
        state: dict[str, Any] = {"step": self.job.step, "progress": asdict(self.progress)}
        write_checkpoint(self.run.path / "checkpoint", self.job.step, self.job.tensors(), state)
        self.saved_at = time.monotonic()


def train(
    decoder: Decoder, trainings: Sequence[Training], examples: Sequence[Encoded], room: Room
) -> list[Progress]:
    """Train one adapter or several at once to the end, resuming where the runs' checkpoints stand.

    The result does not depend on where it was interrupted, nor on what is trained beside it: order,
    dropout and schedule are functions of an adapter's seed and step. Adapters whose checkpoints are of
    different steps (a crash between two writings) catch up first.

    Args:
        room: shrinks when a micro-batch does not fit; the effective batch does not depend on it.

    Raises:
        Interrupted: after Ctrl-C, when the running step is finished and saved.
        BudgetError: where not even the longest example alone fits the device.
    """
    for training in trainings:
        training.resume()
    decoder.use(())  # whoever used it last: copies and graphs may be of weights before they were restored
    num = len(examples)
    begun = _Begun()
    with _stop_after_step() as stop:
        while True:
            ended = [t for t in trainings if _epoch_ends(t, num)]
            due = [t for t in trainings if t not in ended and _save_is_due(t, num)]
            if ended or due or stop.asked:
                begun.end()
            for t in due:
                t.save()
            for t in ended:
                decoder.use(())  # what training holds on the device beside the weights makes room for answers
                decoder.turn(keep=False)
                _end_epoch(t)
                t.save()
            if stop.asked:
                begun.end()  # it may have been asked for only just now
                for t in trainings:
                    t.save()
                step = min(t.job.step for t in trainings)
                total = max(t.job.num_steps(num) for t in trainings)
                raise Interrupted(f"stopped at step {step} of {total}; the checkpoint is saved")
            unfinished = [t for t in trainings if t.job.step < t.job.num_steps(num)]
            if not unfinished:
                return [t.progress for t in trainings]
            behind = min(t.job.step for t in unfinished)
            now = [t for t in unfinished if t.job.step == behind]
            started = time.perf_counter()
            pending = _step(decoder, now, examples, room)
            # What came of the step before is read while a GPU is at work on this one.
            begun = _Begun(now, pending, begun.end() or started)
            if not _works_beside(decoder):
                begun.end()


def _works_beside(decoder: Decoder) -> bool:
    """Whether the device works on while the next step is begun."""
    return decoder.device.type != "cpu"


@dataclass(slots=True)
class _Begun:
    """The step that the device is at work on."""

    trainings: Sequence[Training] = ()
    pending: Sequence[Pending] = ()
    started: float = 0.0
    """When the device could begin with it."""

    def end(self) -> float | None:
        """Wait for it and note what came of it. When that was; None: nothing was under way."""
        if not self.pending:
            return None
        for one in self.pending:
            one.wait()
        ended = time.perf_counter()
        for t, one in zip(self.trainings, self.pending, strict=True):
            stats = one.read((ended - self.started) / len(self.pending))
            _count(t.progress, stats)
            t.run.log("step", **asdict(stats))
            t.hooks.on_step(stats)
        self.trainings, self.pending = (), ()
        return ended


def _epoch_ends(t: Training, num_examples: int) -> bool:
    return t.job.step == t.job.steps_per_epoch(num_examples) * (len(t.progress.epochs) + 1)


def _save_is_due(t: Training, num_examples: int) -> bool:
    """At the end of an epoch it is saved anyway."""
    since = time.monotonic() - t.saved_at
    return since >= t.job.config.checkpoint_every_s and t.job.step % t.job.steps_per_epoch(num_examples) != 0


def _step(
    decoder: Decoder, now: Sequence[Training], examples: Sequence[Encoded], room: Room
) -> list[Pending]:
    """Begin one step of each adapter, within what memory there is."""

    def on_shortage(said: str) -> None:
        for t in now:
            t.run.log("memory", step=t.job.step, retried_with=said)
        now[0].hooks.on_shortage(said)

    return begin_within(decoder, [t.job for t in now], examples, room, on_shortage)


def begin_within(
    decoder: Decoder,
    jobs: Sequence[TrainJob],
    examples: Sequence[Encoded],
    room: Room,
    on_shortage: Callable[[str], None],
) -> list[Pending]:
    """Begin one step of each adapter; done again with less memory where the device has not enough.

    Args:
        room: shrinks then.
        on_shortage: hears what the step is done again with.

    Raises:
        BudgetError: where not even the longest example alone fits the device.
    """
    while True:
        try:
            return begin_step(decoder, jobs, examples, room)
        except RuntimeError as error:
            if not is_shortage(error):
                raise
        # Out of the handler, whose traceback holds the tensors of the failed step.
        said = room.spare_graphs() if decoder.release() else room.shrink()
        decoder.forget_gradients()
        for job in jobs:
            job.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        if said is None:
            raise _does_not_fit(room.limit)
        on_shortage(said)


def _end_epoch(t: Training) -> None:
    progress = t.progress
    epoch = len(progress.epochs) + 1
    validation = t.hooks.validate(epoch)
    record = EpochRecord(
        epoch=epoch,
        step=t.job.step,
        train_loss=progress.epoch_loss / progress.epoch_targets,
        validation=validation,
        seconds=progress.epoch_s,
    )
    if best_epoch([*progress.epochs, record]) == epoch:
        t.hooks.keep(epoch)
    progress.epochs.append(record)
    progress.epoch_loss, progress.epoch_targets, progress.epoch_s = 0.0, 0, 0.0
    t.run.log("epoch", **asdict(record))


def best_epoch(epochs: Sequence[EpochRecord]) -> int:
    """The epoch with the best headline metric on validation, the first of equals; the last without one."""
    scored = [
        (e.validation.metrics[0].estimate.value, -e.epoch)
        for e in epochs
        if e.validation is not None and e.validation.metrics[0].estimate is not None
    ]
    return -max(scored)[1] if scored else epochs[-1].epoch


def _count(progress: Progress, stats: StepStats) -> None:
    progress.epoch_loss += stats.loss * stats.num_targets
    progress.epoch_targets += stats.num_targets
    progress.epoch_s += stats.seconds
    progress.num_tokens += stats.num_tokens
    progress.num_examples += stats.num_examples
    progress.train_s += stats.seconds


def _progress(raw: dict[str, Any]) -> Progress:
    epochs = [
        EpochRecord(**{**e, "validation": evaluation_from_json(e["validation"]) if e["validation"] else None})
        for e in raw["epochs"]
    ]
    return Progress(**{**raw, "epochs": epochs})


def _does_not_fit(num_tokens: int) -> BudgetError:
    return BudgetError(
        Problem(
            where="training",
            field="training.micro_batch_tokens",
            found=f"a micro-batch of {num_tokens} tokens does not fit the device",
            remedy="set a smaller micro_batch_tokens (the result stays the same) or max_length",
        )
    )


class _Stop:
    asked = False


@contextmanager
def _stop_after_step() -> Iterator[_Stop]:
    """The first Ctrl-C lets the running step end and be saved; the second stops at once."""
    stop = _Stop()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: nobody presses Ctrl-C here
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
