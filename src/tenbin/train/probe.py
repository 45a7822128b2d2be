"""Probe: one forward and backward pass at the worst micro-batch, measured, before the training begins.

The plan counts what tensors take; how memory is cut up into segments and what libraries ask for it can only
guess. So the pass is made once, its gradients thrown away, and what the process held is compared with the
plan: what is really there is spent, and what is not there is given up. Adapters, optimizers and random
numbers stay as they are: the training is the same with and without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch

from tenbin.config import TrainingConfig
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fixed import MOST_TOKENS
from tenbin.decoder.shortage import is_shortage
from tenbin.memory import MIB, KeepLevels, MemoryPlan
from tenbin.models.encode import Encoded
from tenbin.train.job import Ahead, TrainJob
from tenbin.train.packing import alone, bundles, num_tokens
from tenbin.train.room import Room
from tenbin.train.step import train_step

SPARE_SHARE = 0.01
"""Of the cap, left free where the plan counted too much: other micro-batches lie differently in memory."""

MOST_TRIED = 64
"""Examples that are tried in what is left of a micro-batch."""


class Meter(Protocol):
    """Tells what the process held at most."""

    def reset_peak(self) -> None:
        """Begin anew."""
        ...

    def peak_mib(self) -> float:
        """Most that was held since, by everything."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was measured, and what follows from it."""

    num_tokens: int
    """Of the micro-batch."""
    predicted_bytes: int
    """By the plan, with the levels that were first tried."""
    measured_bytes: int
    """With the same levels."""
    before: KeepLevels
    after: KeepLevels
    plan: MemoryPlan
    """Corrected: what it predicts with the levels after."""
    shrunk: tuple[str, ...] = ()
    """What was given up because a pass ran out of memory."""

    def describe(self) -> str:
        """`a measured pass holds 40,012 MiB, planned were 41,200; blocks: 32 keep everything`."""
        held, planned = self.measured_bytes / MIB, self.predicted_bytes / MIB
        text = f"a measured pass holds {held:,.0f} MiB, planned were {planned:,.0f}; "
        given_up = "".join(f"not enough memory, so {said}; " for said in self.shrunk)
        return text + given_up + self.after.describe(self.num_tokens)

    def to_json(self) -> dict[str, int | str | list[str]]:
        """For the event and the record of a run."""
        return {
            "tokens": self.num_tokens,
            "predicted_mib": round(self.predicted_bytes / MIB),
            "measured_mib": round(self.measured_bytes / MIB),
            "before": self.before.describe(self.num_tokens),
            "after": self.after.describe(self.num_tokens),
            "planned_mib": round(self.plan.training_bytes(self.num_tokens) / MIB),
            "shrunk": list(self.shrunk),
        }


def probe(
    decoder: Decoder,
    jobs: Sequence[TrainJob],
    examples: Sequence[Encoded],
    room: Room,
    plan: MemoryPlan,
    meter: Meter,
) -> Probe | None:
    """Measure the worst micro-batch of a training and correct what its blocks keep.

    What the plan counted too much is spent, but for a hundredth of the cap, and tried: where that runs out of
    memory the levels before it, which are known to fit, come back. What it counted too little is given up.

    Args:
        jobs: that will train, none of them between a pass and its step.
        room: its levels are those of the plan; corrected in place.

    Returns:
        None where no pass fitted and nothing is left to give up: the first step says so.
    """
    shrunk: list[str] = []
    while not (found := _measured(decoder, jobs, examples, room, meter)).fits:
        said = room.spare_graphs() if found.graphs else room.shrink()
        if said is None:
            return None
        shrunk.append(said)
    tokens, measured = found.num_tokens, found.held_bytes
    before = _in_force(room)
    plan = replace(plan, levels=before)
    predicted = plan.training_bytes(tokens)
    assert room.levels is not None, "there is a cap where there is a probe"
    room.levels = _corrected(room.levels, predicted - measured, plan.cap_bytes, grows=not shrunk)
    after = _in_force(room)
    plan = plan.corrected(predicted - measured, after)
    # Where products wait in the computer's memory, blocks may keep less than before and need more beside it.
    if plan.training_bytes(tokens) > replace(plan, levels=before).training_bytes(tokens):
        again = _measured(decoder, jobs, examples, room, meter)
        if again.fits:  # only what is said of the levels is corrected
            plan = plan.corrected(plan.training_bytes(tokens) - again.held_bytes, after)
        else:  # the levels before did fit, and so did their graphs
            after = before
            plan = plan.corrected(0, before)
    room.levels = after
    room.sparing |= tokens > MOST_TOKENS  # rows that are no graphs pass beside those that are
    _forget(decoder, jobs)
    meter.reset_peak()
    return Probe(
        num_tokens=tokens,
        predicted_bytes=predicted,
        measured_bytes=measured,
        before=before,
        after=after,
        plan=plan,
        shrunk=tuple(shrunk),
    )


def _in_force(room: Room) -> KeepLevels:
    """The room's levels as they are acted on: weights are turned for the longest row that may come, so what
    is said of a shorter one must not count them turned where they are not."""
    assert room.levels is not None, "there is a cap where there is a probe"
    return room.levels if room.turns() else replace(room.levels, turned_bytes=0)


def _corrected(levels: KeepLevels, surplus: int, cap: int | None, *, grows: bool) -> KeepLevels:
    """With more room by what was planned and not held, or less by what was held and not planned."""
    if surplus > 0:
        surplus = max(0, surplus - int((cap or 0) * SPARE_SHARE)) if grows else 0
    return replace(levels, room_bytes=levels.room_bytes + surplus)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One pass that was tried."""

    fits: bool
    graphs: bool
    """It did not fit where CUDA graphs held some of the memory."""
    num_tokens: int
    """Of the largest micro-batch."""
    held_bytes: int
    """At most, by the process."""


def _measured(
    decoder: Decoder, jobs: Sequence[TrainJob], examples: Sequence[Encoded], room: Room, meter: Meter
) -> _Measured:
    """Make a pass and throw away what came of it."""
    trials, chosen = _trials(jobs, examples, room)
    _forget(decoder, jobs)
    meter.reset_peak()
    room.largest = 0
    fits = True
    try:
        train_step(decoder, cast(Sequence[TrainJob], trials), chosen, room)
        if room.replays and decoder.replayable and room.largest <= MOST_TOKENS:
            # A short row is a CUDA graph from its second time on, with memory of its own.
            train_step(decoder, cast(Sequence[TrainJob], trials), chosen, room)
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        fits = False
    found = room.largest, int(meter.peak_mib() * MIB)
    graphs = not fits and decoder.release()
    _forget(decoder, jobs)  # out of the handler, whose traceback holds the tensors of the failed pass
    return _Measured(fits, graphs, *found)


def _forget(decoder: Decoder, jobs: Sequence[TrainJob]) -> None:
    """Drop gradients, and give back what the allocator keeps for later."""
    decoder.release()
    decoder.forget_gradients()
    for job in jobs:
        for parameter in job.parameters.values():
            parameter.grad = None
    if decoder.device.type == "cuda":
        torch.cuda.empty_cache()


class _Trial:
    """What a step asks of a job, changing nothing: some examples once, and gradients thrown away."""

    step = 0
    ahead: Ahead | None = None

    def __init__(self, job: TrainJob, config: TrainingConfig, places: range) -> None:
        self.name, self.drops, self.parameters = job.name, job.drops, job.parameters
        self.config, self.places = config, places

    def batch(self, groups: Sequence[str | None], step: int) -> list[int]:
        return list(self.places)

    def num_steps(self, num_examples: int) -> int:
        return 0  # nothing comes after it

    def steps_per_epoch(self, num_examples: int) -> int:
        return 1

    def set_rate(self, num_examples: int) -> float:
        return 0.0

    def clip(self) -> torch.Tensor:
        return torch.zeros(())

    def update(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None


def _trials(
    jobs: Sequence[TrainJob], examples: Sequence[Encoded], room: Room
) -> tuple[list[_Trial], list[Encoded]]:
    """A trial of each job, and the examples of all of them."""
    trials: list[_Trial] = []
    chosen: list[Encoded] = []
    most = max(1, room.most_tokens // len(jobs))
    for job in jobs:
        share = room.share_prefixes and job.config.loss_on == "response" and not job.drops
        some, shared = worst_examples(job, examples, most, share=share, most_shared=room.most_shared)
        if chosen and len(some[0]) > most:  # too long for its part: beside the others as long as fits the row
            left = room.most_tokens - sum(map(len, chosen))
            some = [max([e for e in examples if len(e) <= left] or some, key=len)]
        # Where no beginning is shared every token may be a target: the most that losses can need.
        config = job.config if shared else job.config.model_copy(update={"loss_on": "all"})
        trials.append(_Trial(job, config, range(len(chosen), len(chosen) + len(some))))
        chosen += some
    return trials, chosen


def worst_examples(
    job: TrainJob, examples: Sequence[Encoded], most_tokens: int, *, share: bool, most_shared: int | None
) -> tuple[list[Encoded], bool]:
    """Examples whose micro-batch is as long as those of the training get, and whether some share a beginning.

    The longest example where it fills a micro-batch by itself; else as many as fit one of those that the step
    with the most tokens has. (Before sharing: where a step does not fill a micro-batch, one of fewer tokens
    that share less may lay down a little more. What is corrected is bytes beside those a token takes.)
    """
    longest = max(examples, key=len)
    if len(longest) >= most_tokens:
        return [longest], False
    groups = [e.group for e in examples]
    steps = [job.batch(groups, step) for step in range(job.num_steps(len(examples)))]
    largest = [examples[i] for i in max(steps, key=lambda step: sum(len(examples[i]) for i in step))]

    def packed(some: Sequence[Encoded]) -> tuple[int, bool]:
        together = bundles(some, most_shared=most_shared) if share else alone(some)
        return sum(num_tokens(some, b) for b in together), any(b.shared for b in together)

    low, high = 1, len(largest)
    while low < high:  # the most of them in order that fit; one always does
        middle = (low + high + 1) // 2
        low, high = (middle, high) if packed(largest[:middle])[0] <= most_tokens else (low, middle - 1)
    chosen = largest[:low]
    for example in sorted(largest[low:], key=len, reverse=True)[:MOST_TRIED]:  # and what fits behind them
        if packed([*chosen, example])[0] <= most_tokens:
            chosen.append(example)
    return chosen, packed(chosen)[1]
