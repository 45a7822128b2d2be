"""One optimizer step of one adapter, or of several at once over the same frozen base."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import MOST_TOKENS, FixedRow, in_cudnn_steps
from tenbin.decoder.host import leaves
from tenbin.decoder.layout import Run
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join, placed
from tenbin.decoder.shortage import is_shortage
from tenbin.models.encode import Encoded
from tenbin.train.job import Ahead, StepStats, TrainJob
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


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that was given to the device, which may still be at work on it."""

    stats: StepStats
    """Loss and norm of the gradients are not known yet."""
    loss_sum: Tensor  # () float64, over the step's targets
    grad_norm: Tensor  # ()

    def wait(self) -> None:
        """Until the device is done."""
        self.grad_norm.item()

    def read(self, seconds: float) -> StepStats:
        """What came of it; `seconds` that the step took."""
        loss = self.loss_sum.item() / self.stats.num_targets
        return replace(self.stats, loss=loss, grad_norm=float(self.grad_norm), seconds=seconds)


def train_step(
    decoder: Decoder, jobs: Sequence[TrainJob], examples: Sequence[Encoded], room: Room
) -> list[StepStats]:
    """`begin_step`, and what came of it."""
    started = time.perf_counter()
    pending = begin_step(decoder, jobs, examples, room)
    stats = [one.read(0.0) for one in pending]
    seconds = (time.perf_counter() - started) / len(jobs)
    return [replace(one, seconds=seconds) for one in stats]


def begin_step(
    decoder: Decoder, jobs: Sequence[TrainJob], examples: Sequence[Encoded], room: Room
) -> list[Pending]:
    """Give one step to the device: losses summed over micro-batches and divided once, by the step's targets.

    Every adapter has its own examples, micro-batches, losses and clipping. The i-th micro-batches of all
    adapters make one row, which passes the frozen weights together, as far as it is not longer than a
    micro-batch may be. Nothing here waits for a GPU: the next step may be begun before this one's losses are
    read.

    Raises:
        RuntimeError: where `is_shortage`, nothing was applied; gradients may be left over.
    """
    batches = [_batch(job, job.step, examples, room, len(jobs)) for job in jobs]
    graphs = room.replays and decoder.replayable
    if not _in_use(decoder, jobs):
        decoder.use([job.name for job in jobs], jobs)
    elif not graphs:
        decoder.refresh()
    decoder.turn(keep=room.turns())  # what is given up for want of memory is given up at once
    totals = [torch.zeros((), device=decoder.device, dtype=torch.float64) for _ in jobs]
    norms = totals[0].new_empty(len(jobs))  # now: once weights are changed, nothing may ask for memory
    for row in _rows(batches, room.most_tokens):
        packs = [one for _, one in row]
        there = [batches[i] for i, _ in row]
        batch, runs = join(packs)
        routing = _routing(there, packs, runs, drops=any(job.drops for job in jobs))
        counts = [p.num_targets for p in packs]
        shares = [1 / b.num_targets for b in there]
        scales = torch.tensor(shares, dtype=torch.float64).repeat_interleave(torch.tensor(counts))
        losses = _losses(decoder, batch, routing, scales, room, graphs=graphs)
        for (i, _), part in zip(row, torch.split(losses, counts), strict=True):
            totals[i] += part.sum()
    rates = [job.set_rate(len(examples)) for job in jobs]
    norms.copy_(_updated(decoder, jobs, graphs=graphs))
    pending = [
        _pending(b, total, rate, norm, len(examples))
        for b, total, rate, norm in zip(batches, totals, rates, norms, strict=True)
    ]
    for job in jobs:  # while a GPU is still at work
        if job.step < job.num_steps(len(examples)):
            _batch(job, job.step, examples, room, len(jobs))
    return pending


@dataclass(slots=True)
class _Update:
    """The end of a step: gradients are clipped, weights changed."""

    jobs: Sequence[TrainJob]
    norms: Tensor | None = None
    """(jobs,) of their gradients before clipping."""
    num_done: int = 0
    """Jobs whose weights are changed."""

    def __call__(self) -> Tensor:
        self.norms = torch.stack([job.clip() for job in self.jobs])
        for job in self.jobs:  # after all that takes memory: either every job takes its step or none does
            job.update()
            self.num_done += 1
        return self.norms


def _updated(decoder: Decoder, jobs: Sequence[TrainJob], *, graphs: bool) -> Tensor:
    """Change the weights of all jobs; the norms (jobs,) of their gradients before clipping.

    Changing weights asks for no memory. Should the device want some nevertheless when the first job has taken
    its step, the step must not be done again: then it is brought to its end, with everything else given up.
    """
    update = _Update(jobs)
    try:
        if graphs:
            return decoder.replayed_update("update", update)
        decoder.give_gradients()
        return update()
    except RuntimeError as error:
        if not update.num_done or not is_shortage(error):
            raise
    decoder.forget_gradients()  # those that are not taken yet are the weights' own by now
    decoder.use(())  # whoever comes next takes the adapters as they are then
    torch.cuda.empty_cache()
    assert update.norms is not None, "weights are changed after clipping"
    for job in jobs[update.num_done :]:
        job.update()
    return update.norms


def _in_use(decoder: Decoder, jobs: Sequence[TrainJob]) -> bool:
    users = decoder.users
    return len(users) == len(jobs) and all(a is b for a, b in zip(users, jobs, strict=True))


def _routing(
    batches: Sequence[_Batch], packs: Sequence[PackedBatch], runs: Sequence[Run], *, drops: bool
) -> Routing:
    """Which tokens of the joined packs belong to which adapter; `drops`: one of those in use has dropout."""
    names = tuple(batches[run.row].job.name for run in runs)
    spans = tuple(run.span for run in runs)
    draws: list[Draws] = []
    if drops:  # then what drops shares nothing, and its pack is one run
        draws = [_draws(batches[run.row], packs[run.row], run.span) for run in runs]
    return Routing(names, spans, tuple(draws))


def _batch(job: TrainJob, step: int, examples: Sequence[Encoded], room: Room, num_jobs: int) -> _Batch:
    """The adapter's examples of a step, packed; kept until the next is asked for."""
    most = max(1, room.most_tokens // num_jobs)
    key = (step, most)
    if job.ahead is not None and job.ahead.key == key:
        return _Batch(job, job.ahead.packs, job.ahead.num_examples)
    chosen = [examples[i] for i in job.batch([e.group for e in examples], step)]
    # Texts that share a beginning would share its dropout too, and "all" makes it a target of each.
    share = room.share_prefixes and job.config.loss_on == "response" and not job.drops
    together = bundles(chosen, most_shared=room.most_shared) if share else alone(chosen)
    rows = micro_batches(chosen, together, most)
    packs = [pack(chosen, row, job.config.loss_on) for row in rows]
    job.ahead = Ahead(key, packs, len(chosen))
    return _Batch(job, packs, len(chosen))


def _rows(batches: Sequence[_Batch], most_tokens: int) -> list[list[tuple[int, PackedBatch]]]:
    """The micro-batches that pass the weights together, each with the number of its adapter: one of each.

    Together they have at most `most_tokens`; one that is longer (a long example) passes alone.
    """
    rows: list[list[tuple[int, PackedBatch]]] = []
    for number in range(max(len(b.packs) for b in batches)):
        num_tokens = most_tokens + 1  # the first begins a row
        for i, one in ((i, b.packs[number]) for i, b in enumerate(batches) if number < len(b.packs)):
            num_tokens += one.num_tokens
            if num_tokens > most_tokens:
                rows.append([])
                num_tokens = one.num_tokens
            rows[-1].append((i, one))
    return rows


def _losses(
    decoder: Decoder, batch: PackedBatch, routing: Routing, scales: Tensor, room: Room, *, graphs: bool
) -> Tensor:
    """Losses (N,) of a micro-batch, its gradients gathered."""
    if decoder.device.type == "cuda" and not routing.draws:
        if graphs and batch.num_tokens <= MOST_TOKENS:
            row = FixedRow.make(batch, routing, scales, decoder.names)
            keep = room.keep(row.batch.num_tokens)
            # A graph does not reach the computer's memory.
            if not leaves(keep) and room.records(row.batch.num_tokens):
                return decoder.replayed_losses(row, keep)
        longer = in_cudnn_steps(batch)
        if longer is not batch:
            batch, routing = longer, replace(routing, spans=((0, longer.num_tokens),))
    scales = placed(scales, decoder.device)
    keep = room.keep(batch.num_tokens)
    return decoder.losses(batch.to(decoder.device), routing, scales=scales, keep=keep)


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


def _pending(b: _Batch, total: Tensor, rate: float, norm: Tensor, num_examples: int) -> Pending:
    b.job.step += 1
    stats = StepStats(
        step=b.job.step,
        epoch=(b.job.step - 1) // b.job.steps_per_epoch(num_examples) + 1,
        loss=math.nan,
        learning_rate=rate,
        grad_norm=math.nan,
        num_tokens=b.num_tokens,
        num_targets=b.num_targets,
        num_examples=b.num_examples,
        seconds=0.0,
    )
    return Pending(stats, total, norm)
