"""One optimizer step of one adapter, or of several at once over the same frozen base."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from tenbin.decoder.attend import CUDNN_FROM, CUDNN_STEP
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join, placed
from tenbin.models.encode import Encoded
from tenbin.train.job import StepStats, TrainJob
from tenbin.train.packing import alone, bundles, micro_batches, pack
from tenbin.train.room import Room

Draws = tuple[tuple[int, int, int], ...]
"""(start, end, number) of runs of tokens that draw one mask, see `Routing`."""
MOST_EXAMPLES = 2**20
"""More than one step can have: keeps the numbers that dropout's masks are drawn from apart."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one adapter does in this step."""

    job: TrainJob
    packs: list[PackedBatch]
    num_examples: int

    @property
    def num_targets(self) -> int:
        return sum(p.num_targets for p in self.packs)

    @property
    def num_tokens(self) -> int:
        return sum(p.num_tokens for p in self.packs)


def train_step(
    decoder: Decoder, jobs: Sequence[TrainJob], examples: Sequence[Encoded], room: Room
) -> list[StepStats]:
    """Losses summed over micro-batches and divided once, by the targets of each adapter's step.

    Every adapter has its own examples, micro-batches, losses and clipping. The i-th micro-batches of all
    adapters make one row, which passes the frozen weights together.

    Raises:
        OutOfMemoryError: nothing was applied; gradients may be left over.
    """
    started = time.perf_counter()
    batches = [_batch(job, job.step, examples, room, len(jobs)) for job in jobs]
    names = tuple(job.name for job in jobs)
    if decoder.names != names:
        decoder.use(names)
    else:
        decoder.refresh()
    totals = [torch.zeros((), device=decoder.device, dtype=torch.float64) for _ in jobs]
    for number in range(max(len(b.packs) for b in batches)):
        there = [(i, b) for i, b in enumerate(batches) if number < len(b.packs)]
        packs = [b.packs[number] for _, b in there]
        spans = _spans([p.num_tokens for p in packs])
        draws: list[Draws] = []
        if any(b.job.drops for _, b in there):
            draws = [_draws(b, p, span) for (_, b), p, span in zip(there, packs, spans, strict=True)]
        routing = Routing(tuple(b.job.name for _, b in there), spans, tuple(draws))
        counts = [p.num_targets for p in packs]
        shares = [1 / b.num_targets for _, b in there]
        scales = torch.tensor(shares, dtype=torch.float64).repeat_interleave(torch.tensor(counts))
        losses = _losses(decoder, join(packs), routing, scales, room)
        for (i, _), part in zip(there, torch.split(losses, counts), strict=True):
            totals[i] += part.sum()
    decoder.give_gradients()
    for job in jobs:  # while a GPU is still at work: reading the losses waits for it
        if job.step + 1 < job.num_steps(len(examples)):
            _batch(job, job.step + 1, examples, room, len(jobs))
    stats = [_apply(b, total, len(examples)) for b, total in zip(batches, totals, strict=True)]
    seconds = (time.perf_counter() - started) / len(jobs)
    return [replace(s, seconds=seconds) for s in stats]


def _batch(job: TrainJob, step: int, examples: Sequence[Encoded], room: Room, num_jobs: int) -> _Batch:
    """The adapter's examples of a step, packed; kept until the next is asked for."""
    most = max(1, room.most_tokens // num_jobs)
    key = (step, most)
    ahead = job.ahead
    if ahead is not None and ahead[0] == key:
        assert isinstance(ahead[1], _Batch)
        return ahead[1]
    chosen = [examples[i] for i in job.batch([e.group for e in examples], step)]
    # Texts that share a beginning would share its dropout too, and "all" makes it a target of each.
    share = room.share_prefixes and job.config.loss_on == "response" and not job.drops
    together = bundles(chosen, most_shared=room.most_shared) if share else alone(chosen)
    rows = micro_batches(chosen, together, most)
    batch = _Batch(job, [pack(chosen, row, job.config.loss_on) for row in rows], len(chosen))
    job.ahead = (key, batch)
    return batch


def _losses(decoder: Decoder, batch: PackedBatch, routing: Routing, scales: Tensor, room: Room) -> Tensor:
    """Losses (N,) of a micro-batch, its gradients gathered."""
    if decoder.device.type == "cuda":
        batch, routing = _padded(batch, routing)
    scales = placed(scales, decoder.device)
    keep = room.keep(batch.num_tokens)
    return decoder.losses(batch.to(decoder.device), routing, scales=scales, keep=keep)


def _padded(batch: PackedBatch, routing: Routing) -> tuple[PackedBatch, Routing]:
    """A row of one long text, lengthened to one of few lengths: cuDNN plans anew for every one.

    What is added stands at the end, where nothing that came before attends to it, and predicts nothing.
    """
    length = batch.num_tokens
    extra = -length % CUDNN_STEP
    if len(batch.layout.offsets) > 2 or length < CUDNN_FROM or not extra or routing.draws:
        return batch, routing
    last = torch.arange(length, length + extra).clamp(max=int(batch.position_ids.max()))
    return (
        replace(
            batch,
            input_ids=torch.cat([batch.input_ids, batch.input_ids.new_zeros(extra)]),
            position_ids=torch.cat([batch.position_ids, last]),
            layout=Layout((0, length + extra)),
        ),
        replace(routing, spans=((0, length + extra),)),
    )


def _draws(b: _Batch, batch: PackedBatch, span: tuple[int, int]) -> Draws:
    """A mask an example, drawn from (seed, layer, step, its number): the packing has no part in it."""
    start, end = span
    first = b.job.step * MOST_EXAMPLES
    if not b.job.drops:  # beside one that does: its mask is 1 everywhere
        return ((start, end, first),)
    return tuple(
        (start + a, start + z, first + number)
        for (a, z), number in zip(pairwise(batch.layout.offsets), batch.examples, strict=True)
    )


def _spans(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    ends = list(accumulate(lengths))
    return tuple(zip([0, *ends[:-1]], ends, strict=True))


def _apply(b: _Batch, total: Tensor, num_examples: int) -> StepStats:
    rate, norm = b.job.apply(num_examples)
    return StepStats(
        step=b.job.step,
        epoch=(b.job.step - 1) // b.job.steps_per_epoch(num_examples) + 1,
        loss=total.item() / b.num_targets,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=b.num_tokens,
        num_targets=b.num_targets,
        num_examples=b.num_examples,
        seconds=0.0,
    )
