"""Bench: training speed and peak memory on this machine, against the plan and the machine's own matrix rate.

Models are built from their sizes with random weights: speed and memory do not depend on what they know. What
is measured is what a training does: on a GPU a measured pass corrects what the blocks keep before the steps.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.bench_memory import planned_figures
from tenbin.bench_sizes import model_sizes
from tenbin.bench_steps import StepTimes, mean_context
from tenbin.bench_works import Work, questions, rows
from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.device import Device
from tenbin.memory import MIB, BaseType, MemoryPlan, plan_training
from tenbin.models.lora import add_adapter, inject, remove_adapter, trainable
from tenbin.models.shape import ModelShape
from tenbin.train.engine import begin_within
from tenbin.train.job import StepStats, TrainJob
from tenbin.train.probe import probe
from tenbin.train.room import Room
from tenbin.train.step import Pending

__all__ = ["TrainBench", "Work", "questions", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainBench:
    """One model on a device, to be measured with several works."""

    name: str
    device: Device
    shape: ModelShape
    base: BaseType
    cap_bytes: int | None
    host_bytes: int
    """Of the computer's memory, for what blocks leave there, as in a study that says nothing of it."""
    matrix_rate: float
    """Operations a second of a large matrix product in bf16 at the start: only the first model of a process
    finds the device cool."""
    model: torch.nn.Module = field(repr=False)
    decoder: Decoder = field(repr=False)

    @classmethod
    def build(cls, name: str, device: Device, *, base: BaseType, cap_bytes: int | None) -> "TrainBench":
        """Random weights of a known model, or of the sizes in a model folder, its linear maps in `base`.

        Raises:
            ModelError: no known name, and no folder with a `config.json` that tenbin can read.
        """
        sizes = model_sizes(name)
        rate = device.matrix_rate("bf16")
        shape = ModelShape.read(sizes)
        config = AutoConfig.for_model(**sizes)
        torch.manual_seed(0)
        make: Any = AutoModelForCausalLM.from_config
        with device.torch:  # made where it stays
            model = make(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
        inject(model)

        decoder = Decoder(model, make_frozen(base))
        return cls(
            name=name,
            device=device,
            shape=shape,
            base=base,
            cap_bytes=cap_bytes,
            host_bytes=device.host_room(None),
            matrix_rate=rate,
            model=model,
            decoder=decoder,
        )

    def measure(
        self, work: Work, *, steps: int = 5, adapters: int = 1, levels: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Train some steps and report the median of all but the first two.

        Args:
            adapters: trained at once, each on examples of its own.
            levels: what the blocks keep (see `tenbin.memory`), which no measured pass corrects; None: as the
                plan has it, corrected as before a training. What a step has no memory for is given up.

        Raises:
            BudgetError: not even the longest example alone fits the device.
        """
        if self.decoder.device.type == "cuda":
            torch.cuda.empty_cache()
        self.device.reset_peak()
        plan, probed, given_up = self._plan(work, adapters, levels), None, list[str]()
        room = Room(
            plan.most_tokens,
            levels=plan.levels,
            longest=max(map(len, work.examples)),
            most_shared=self.shape.sliding_window,
        )
        jobs = [self._job(f"a{i}", i, work, steps) for i in range(adapters)]
        try:
            if self.device.kind == "cuda" and self.cap_bytes is not None and levels is None:
                probed = probe(self.decoder, jobs, work.examples, room, plan, self.device)
                given_up += probed.shrunk if probed is not None else ()
            times, loss = self._timed(work, jobs, room, steps, given_up.append)
            roof = self.device.warm_rate()
        finally:
            for job in jobs:
                remove_adapter(self.model, job.name)
            self.decoder.forget_gradients()
            self.decoder.use(())
            self.decoder.turn(keep=False)
        return {
            "bench": "train",
            "system": "tenbin",
            "model": self.name,
            "work": work.name,
            "dtype": "bf16" if self.base == "same" else self.base,
            "adapters": adapters,
            **times.rates(
                self.shape,
                context=mean_context([len(e) for e in work.examples]),
                matrix_rate=roof,
            ),
            **planned_figures(plan, probed, room),
            **self._held(),
            "roof_tflops": float(f"{roof / 1e12:.4g}"),
            "burst_tflops": float(f"{self.matrix_rate / 1e12:.4g}"),
            "loss": round(loss, 4),
            "gpu": self.device.name,
            "versions": {"torch": torch.__version__},
            **({"note": f"out of memory; {'; '.join(given_up)}"} if given_up else {}),
        }

    def _held(self) -> dict[str, int | None]:
        """MiB: at most by the process; now on the whole GPU, by its driver; at most in tensors."""
        on_gpu = self.decoder.device.type == "cuda"
        free, total = torch.cuda.mem_get_info() if on_gpu else (0, 0)
        return {
            "peak_mib": round(self.device.peak_mib()),
            "driver_mib": round((total - free) / MIB),
            "allocated_mib": round(torch.cuda.max_memory_allocated() / MIB) if on_gpu else None,
        }

    def _timed(
        self,
        work: Work,
        jobs: Sequence[TrainJob],
        room: Room,
        steps: int,
        on_shortage: Callable[[str], None],
    ) -> tuple[StepTimes, float]:
        """The steps, and the last loss."""
        times, loss = StepTimes(), 0.0
        begun: deque[list[Pending]] = deque()
        ended = [self._now()]
        # As in training, a step is read while a GPU is at work on the next.
        ahead = 1 if self.decoder.device.type == "cuda" else 0
        done: list[list[StepStats]] = []
        for number in range(steps + ahead):
            if number < steps:
                begun.append(begin_within(self.decoder, jobs, work.examples, room, on_shortage))
                ended.append(self._now())
            if number >= ahead:
                done.append([one.read(0.0) for one in begun.popleft()])
        for stats, before, after in zip(done, ended, ended[1:], strict=False):
            times.add(
                _seconds(before, after),
                tokens=sum(s.num_tokens for s in stats),
                targets=sum(s.num_targets for s in stats),
                examples=sum(s.num_examples for s in stats),
            )
            loss = stats[0].loss
        return times, loss

    def _now(self) -> "torch.cuda.Event | float":
        """When the device has done what it was given so far."""
        if self.decoder.device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _plan(self, work: Work, adapters: int, levels: Sequence[int] | None) -> MemoryPlan:
        """Before anything is measured; `levels`: that were asked for instead of the plan's own."""
        plan = plan_training(
            self.shape,
            rank=16,
            most_tokens=work.most_tokens * adapters,
            dtype_bytes=2,
            cap_bytes=self.cap_bytes,
            decode_tokens=0,
            gpu=self.device.kind == "cuda",
            base=self.base,
            num_adapters=adapters,
            host_bytes=self.host_bytes,
        )
        if levels is None:
            return plan
        return replace(plan, levels=replace(plan.levels, fixed=tuple(levels)))

    def _job(self, name: str, seed: int, work: Work, steps: int) -> TrainJob:
        add_adapter(self.model, name, LoraConfig(rank=16, alpha=16.0), seed=seed)
        config = TrainingConfig(
            batch_size=work.batch_size, epochs=steps, loss_on=work.loss_on, schedule="constant", warmup=0.0
        )
        return TrainJob(name, trainable(self.model, name), config, rate=1e-4, seed=seed)


def _seconds(before: "torch.cuda.Event | float", after: "torch.cuda.Event | float") -> float:
    if isinstance(before, float) or isinstance(after, float):
        assert isinstance(before, float), "both are of one clock"
        assert isinstance(after, float), "both are of one clock"
        return after - before
    after.synchronize()
    return float(before.elapsed_time(after)) / 1000
