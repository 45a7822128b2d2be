"""The training loop: one adapter over a frozen base, validated by what it generates after each epoch."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from tenbin.errors import BudgetError, Interrupted, Problem
from tenbin.models.encode import Encoded
from tenbin.models.lora import lora_layers, set_micro_batch
from tenbin.runs import EpochRecord, Run, evaluation_from_json
from tenbin.train.checkpoint import read_checkpoint, write_checkpoint
from tenbin.train.job import StepStats, TrainJob
from tenbin.train.loss import cross_entropy_sum
from tenbin.train.packing import PackedBatch, micro_batches, pack
from tenbin.types import EvalResult

MOST_MICRO_BATCHES = 2**20
"""More than one step can have: keeps the numbers of steps apart."""


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


def train(
    model: torch.nn.Module,
    job: TrainJob,
    examples: Sequence[Encoded],
    *,
    run: Run,
    most_tokens: int,
    hooks: Hooks,
) -> Progress:
    """Train one adapter to the end, resuming where the run's checkpoint stands.

    The adapter must be the active one of the model. The result does not depend on where it was
    interrupted: order, dropout and schedule are functions of the seed and the step.

    Args:
        most_tokens: of one micro-batch; the effective batch does not depend on it.

    Raises:
        Interrupted: after Ctrl-C, when the running step is finished and saved.
        BudgetError: where one micro-batch does not fit the device.
    """
    progress = Progress()
    checkpoint = read_checkpoint(run.path / "checkpoint")
    if checkpoint is not None:
        job.restore(checkpoint.tensors, checkpoint.state["step"])
        progress = _progress(checkpoint.state["progress"])
        run.log("resumed", step=job.step)
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        state: dict[str, Any] = {"step": job.step, "progress": asdict(progress)}
        write_checkpoint(run.path / "checkpoint", job.step, job.tensors(), state)
        saved_at = time.monotonic()

    per_epoch = job.steps_per_epoch(len(examples))
    num_steps = job.num_steps(len(examples))
    with _stop_after_step() as stop:
        while True:
            if job.step == per_epoch * (len(progress.epochs) + 1):
                _end_epoch(job, progress, run, hooks)
                save()
            if stop.asked:
                save()
                raise Interrupted(f"stopped at step {job.step} of {num_steps}; the checkpoint is saved")
            if job.step == num_steps:
                return progress
            with _dropout(model):
                stats = train_step(model, job, examples, most_tokens)
            _count(progress, stats)
            run.log("step", **asdict(stats))
            hooks.on_step(stats)
            if time.monotonic() - saved_at >= job.config.checkpoint_every_s and job.step % per_epoch:
                save()


def train_step(
    model: torch.nn.Module, job: TrainJob, examples: Sequence[Encoded], most_tokens: int
) -> StepStats:
    """One optimizer step: losses summed over micro-batches and divided once, by the step's targets."""
    started = time.perf_counter()
    chosen = [examples[i] for i in job.batch(len(examples), job.step)]
    rows = micro_batches([len(e) for e in chosen], most_tokens)
    packs = [pack([chosen[i] for i in row], job.config.loss_on) for row in rows]
    num_targets = sum(p.num_targets for p in packs)
    total = 0.0
    try:
        for number, batch in enumerate(packs):
            # Dropout is a function of seed, layer and this number, so resuming needs no state.
            set_micro_batch(model, job.step * MOST_MICRO_BATCHES + number)
            loss = pack_loss(model, batch)
            (loss / num_targets).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
    except torch.OutOfMemoryError as error:
        raise _does_not_fit(max(p.num_tokens for p in packs)) from error
    rate, norm = job.apply(len(examples))
    return StepStats(
        step=job.step,
        epoch=(job.step - 1) // job.steps_per_epoch(len(examples)) + 1,
        loss=total / num_targets,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=sum(p.num_tokens for p in packs),
        num_targets=num_targets,
        num_examples=len(chosen),
        seconds=time.perf_counter() - started,
    )


def pack_loss(model: torch.nn.Module, batch: PackedBatch) -> Tensor:
    """Sum of -log p over the targets of one pack, in nats. The head sees only positions that predict."""
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    batch = batch.to(head.weight.device)
    decoder: Any = model.base_model
    hidden = decoder(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        # A mask of four dimensions is passed on as it is, so none is built; the segments say it all.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=head.weight.device),
        use_cache=False,
        segments=batch.segments,
    ).last_hidden_state  # (1, T, D)
    return cross_entropy_sum(hidden[0, batch.predicts], head.weight, batch.labels)


def _end_epoch(job: TrainJob, progress: Progress, run: Run, hooks: Hooks) -> None:
    epoch = len(progress.epochs) + 1
    validation = hooks.validate(epoch)
    record = EpochRecord(
        epoch=epoch,
        step=job.step,
        train_loss=progress.epoch_loss / progress.epoch_targets,
        validation=validation,
        seconds=progress.epoch_s,
    )
    if best_epoch([*progress.epochs, record]) == epoch:
        hooks.keep(epoch)
    progress.epochs.append(record)
    progress.epoch_loss, progress.epoch_targets, progress.epoch_s = 0.0, 0, 0.0
    run.log("epoch", **asdict(record))


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


@contextmanager
def _dropout(model: torch.nn.Module) -> Iterator[None]:
    """Only the adapters are in training mode: the frozen base drops nothing."""
    layers = [layer for _, layer in lora_layers(model)]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


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
