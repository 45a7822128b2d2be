"""Bench: how fast prompts are answered on this machine, by a model with random weights, in what memory."""

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tenbin.bench import TrainBench
from tenbin.bench_generate_plan import GeneratePlan, plan_generation
from tenbin.bench_generate_works import RATES, GenerateWork, rates
from tenbin.config import LoraConfig
from tenbin.generate.batching import BatchGenerator, Request, most_shared
from tenbin.generate.schedule import slots_needed
from tenbin.memory import CPU_PASS_TOKENS, GPU_PASS_TOKENS, MIB
from tenbin.models.lora import add_adapter, remove_adapter

WARM_UP_SHARE = 0.25
"""Of the prompts, answered once before anything is counted: graphs are captured and kernels tuned there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How prompts are answered."""

    runs: int = 3
    """Times that all are answered; rates are of the median."""
    adapters: int = 0
    """0, or 1: of rank 16 on all linear maps."""
    most_tokens: int | None = None
    """Read at once; None: what fills the device."""
    most_rows: int = 512
    """Answers written at once."""
    graphs: bool = True
    """CUDA graphs, where there is a GPU."""
    warm_up: float = WARM_UP_SHARE
    """Share of the prompts that are answered before anything is counted."""
    laid_out: bool = False
    """The cache is laid out anew for every run, within its time, as each validation of a study does."""


def measure_generation(built: TrainBench, work: GenerateWork, how: Answering) -> dict[str, Any]:
    """Answer all prompts of a work several times; the median. What does not fit has a reason and no rates."""
    gc.collect()  # the cache of the work before
    if built.device.kind == "cuda":
        torch.cuda.empty_cache()
    built.device.reset_peak()
    plan = _plan(built, work, how)
    if plan.cache_tokens < work.longest:
        text = (
            f"a prompt and its answer have {work.longest} tokens; the cache has room for {plan.cache_tokens}"
        )
        return dict.fromkeys(RATES) | _memory(built, plan, how) | {"reason": text}
    with _adapter(built, how.adapters) as adapter:
        timed = _timed(built, work, how, plan, adapter)
    found: dict[str, Any] = dict.fromkeys(RATES)
    if "run_seconds" in timed:
        middle = statistics.median(timed["run_seconds"])
        found = rates(work, built.shape, middle, matrix_rate=timed["roof_tflops"] * 1e12)
    return found | _memory(built, plan, how) | timed


def _timed(
    built: TrainBench, work: GenerateWork, how: Answering, plan: GeneratePlan, adapter: str | None
) -> dict[str, Any]:
    """`run_seconds` after `warm_up_s`, or the `reason` of none; a `note` where memory was short."""
    requests, notes = _requests(work, adapter), []
    seconds: list[float] = []
    few = max(1, round(how.warm_up * len(requests)))
    generator = None
    for asked in (requests[:few], *[requests] * how.runs):
        _wait(built)
        started = time.perf_counter()
        if generator is None:
            generator = _generator(built, how, plan)
            if not how.laid_out:
                started = time.perf_counter()
        answers = list(generator.run(asked))
        _wait(built)
        if how.laid_out:
            notes += generator.notes
            generator = None  # its cache is free
            if built.device.kind == "cuda":  # as a study does: training wants the cache's place
                torch.cuda.empty_cache()
        seconds.append(time.perf_counter() - started)
        errors = [answer.error for answer in answers if answer.reason == "error"]
        if errors:
            return {"reason": f"{len(errors)} of {len(asked)} prompts were not answered: {errors[0]}"}
        lengths = {len(answer.new_ids) for answer in answers}
        assert len(answers) == len(asked), f"{len(answers)} answers to {len(asked)} prompts"
        assert lengths == {work.new_tokens}, f"answers of {lengths} tokens"
    notes += generator.notes if generator is not None else []
    roof = built.device.warm_rate()
    first, *counted = (round(s, 6) for s in seconds)
    found: dict[str, Any] = {
        "run_seconds": counted,
        "warm_up_s": first,
        "roof_tflops": float(f"{roof / 1e12:.4g}"),
    }
    return found | ({"note": "; ".join(notes)} if notes else {})


def _generator(built: TrainBench, how: Answering, plan: GeneratePlan) -> BatchGenerator:
    return BatchGenerator(
        built.decoder,
        cache_tokens=plan.cache_tokens,
        end_ids=(),
        most_tokens=_most_tokens(built, how),
        most_rows=how.most_rows,
        graphs=how.graphs,
    )


def _requests(work: GenerateWork, adapter: str | None) -> list[Request]:
    return [Request(index, ids, work.new_tokens, adapter) for index, ids in enumerate(work.prompts)]


def _memory(built: TrainBench, plan: GeneratePlan, how: Answering) -> dict[str, Any]:
    gpu = built.device.kind == "cuda"
    free, total = torch.cuda.mem_get_info() if gpu else (0, 0)
    return {
        "most_tokens": _most_tokens(built, how),
        "graphs": how.graphs and gpu,
        "cache_tokens": plan.cache_tokens,
        "planned_mib": round(plan.total_bytes / MIB),
        "peak_mib": round(built.device.peak_mib()),
        "driver_mib": round((total - free) / MIB),
        "allocated_mib": round(torch.cuda.max_memory_allocated() / MIB) if gpu else None,
        "burst_tflops": float(f"{built.matrix_rate / 1e12:.4g}"),
    }


def _plan(built: TrainBench, work: GenerateWork, how: Answering) -> GeneratePlan:
    return plan_generation(
        built.shape,
        needed_tokens=slots_needed(_requests(work, None), most_shared(built.decoder)),
        longest=work.longest,
        most_tokens=_most_tokens(built, how),
        cap_bytes=built.cap_bytes,
        gpu=built.device.kind == "cuda",
        base=built.base,
        num_adapters=how.adapters,
    )


def _most_tokens(built: TrainBench, how: Answering) -> int:
    return how.most_tokens or (GPU_PASS_TOKENS if built.device.kind == "cuda" else CPU_PASS_TOKENS)


@contextmanager
def _adapter(built: TrainBench, count: int) -> Iterator[str | None]:
    """Its name, while it is in use; None for none."""
    if not count:
        yield None
        return
    name = "bench"
    add_adapter(built.model, name, LoraConfig(rank=16, alpha=16.0), seed=0)
    built.decoder.use((name,))
    try:
        yield name
    finally:
        built.decoder.use(())
        remove_adapter(built.model, name)


def _wait(built: TrainBench) -> None:
    if built.device.kind == "cuda":
        torch.cuda.synchronize()
