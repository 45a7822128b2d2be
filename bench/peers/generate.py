"""Speed of answering of other tools on the works of `tenbin bench generate`: a process a tool, a line a work.

    python bench/peers/generate.py VARIANT --model 7b --lengths lengths.json --vram-mib 46000 \\
        --time-limit 120 --output bench/results/generate-GPU.jsonl

VARIANT is transformers (`generate`, prompts sorted by length and padded on the left, for each --batch-size),
continuous (transformers' continuous batching, with its own choices but for the memory) or vllm. Random
weights in bf16, greedy, the same prompts as tenbin's bench and the same hard cap; nothing ends an answer
early. Lines are those of `tenbin bench generate`, with `variant` beside `system`; they are flushed one by
one. When the time is over the work at hand ends with the batches it has, and what was not measured is a line
with the reason.

transformers has a line for each batch size, smallest first, and at last the best of them again (`best_of`).
Its batches run in random order after a warm-up on the longest; with --seconds a batch size ends after so
many, and the rate is that of the prompts done. The others answer some reversed prompts first (so that they
share nothing with those that count), then all prompts once.

Needs: pip install -c constraints.txt -e ".[train]"; vLLM for its variant. vLLM takes a folder: config and no
weights, written into --scratch.
"""

import argparse
import os
import random
import time
from dataclasses import replace
from importlib.util import find_spec

from lines import Lines, TimeOver, add_arguments, attempt, find_source, free, memory, wait

PACKAGES = {"transformers": (), "continuous": (), "vllm": ("vllm",)}
WORKS = ("jsquad", "256x512+64")
BATCH_SIZES = (16, 64, 128, 256)
SHARES = (0.9, 0.7, 0.5)
"""Of the memory that is left, for the cache of continuous batching, until it works."""
OUTSIDE_BYTES = 1536 * 2**20
"""Of the cap, for what vLLM takes beside what it is told: context and CUDA graphs."""
CPU_CACHE_BYTES = 3 * 2**29
WARM_UP = 64
"""Prompts that are answered before anything is counted, where the tool makes its own batches."""


def measure_batches(built, work, batch_size, options, alarm):
    """Rates of transformers' `generate`; those of the batches so far where the time is over."""
    from batches import left_padded

    groups = by_length(work.prompts, batch_size)

    def answer(group):
        inputs = left_padded(group, built.device)
        new = built.model.generate(**inputs, max_new_tokens=work.new_tokens, do_sample=False, pad_token_id=0)
        wait(built.device)
        assert new.shape == (len(group), inputs["input_ids"].shape[1] + work.new_tokens), new.shape

    answer(groups[0])  # the longest: what fits it fits all
    random.Random(0).shuffle(groups)
    seconds, done, over = 0.0, [], False
    try:
        for group in groups:
            started = time.perf_counter()
            answer(group)
            with alarm.later():
                seconds += time.perf_counter() - started
                done += group
            if options.seconds is not None and seconds > options.seconds:
                break
    except TimeOver:
        alarm.stop()
        over = True
    return built.rates(work, done, seconds) | {"batch_size": batch_size}, over


def by_length(prompts, batch_size):
    """Batches of prompts of like lengths, longest first."""
    ordered = sorted(prompts, key=len, reverse=True)
    return [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]


def measure_continuous(built, work, share):
    """Rates of transformers' continuous batching with a share of the room for its cache."""
    from transformers import GenerationConfig
    from transformers.generation import ContinuousBatchingConfig
    from transformers.generation.continuous_batching.utils import WorkloadHints

    hints = WorkloadHints(
        max_prompt_length=max(map(len, work.prompts)),
        max_generated_length=work.new_tokens,
        num_requests=len(work.prompts),
    )
    with built.model.continuous_batching_context_manager(
        generation_config=GenerationConfig(
            max_new_tokens=work.new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
        ),
        continuous_batching_config=ContinuousBatchingConfig(max_memory_percent=share * built.free_share()),
        block=True,
        timeout=5,
        workload_hints=hints,
    ) as manager:
        answer_all(manager, reversed_prompts(work), work.new_tokens)
        started = time.perf_counter()
        answer_all(manager, work.prompts, work.new_tokens)
        wait(built.device)
        seconds = time.perf_counter() - started
    return built.rates(work, work.prompts, seconds) | {"cache_share": share}


def answer_all(manager, prompts, new_tokens):
    """Until every prompt has its answer."""
    asked = manager.add_requests(inputs=[list(ids) for ids in prompts], max_new_tokens=new_tokens)
    finished = set()
    while len(finished) < len(asked):
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                raise RuntimeError("the thread that generates has ended")
            continue
        if result.error is not None:
            raise RuntimeError(result.error)
        if result.is_finished():
            assert len(result.generated_tokens) == new_tokens, len(result.generated_tokens)
            finished.add(result.request_id)


def measure_vllm(built, work):
    """Rates of vLLM, its prefix cache on and empty at the start."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    how = SamplingParams(temperature=0, max_tokens=work.new_tokens, ignore_eos=True, detokenize=False)

    def answer(prompts):
        asked = [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts]
        found = built.model.generate(asked, how, use_tqdm=False)
        assert {len(one.outputs[0].token_ids) for one in found} == {work.new_tokens}

    answer(reversed_prompts(work))
    built.model.reset_prefix_cache()
    started = time.perf_counter()
    answer(work.prompts)
    wait(built.device)
    return built.rates(work, work.prompts, time.perf_counter() - started)


def reversed_prompts(work):
    """Some of the work's lengths, with no beginning in common with its prompts."""
    return [ids[::-1] for ids in work.prompts[:WARM_UP]]


class Built:
    """One model, built once for all works."""

    def __init__(self, options, name, device, works):
        from tenbin.bench_sizes import model_sizes
        from tenbin.models.shape import ModelShape

        self.options, self.device = options, device
        sizes = model_sizes(name)
        self.shape = ModelShape.read(sizes)
        device.reset_peak()
        if options.variant == "vllm":
            self.model = self._vllm(name, sizes, max(work.longest for work in works))
        else:
            from peer import random_model

            self.model = random_model(sizes, device).eval()
            self.model.generation_config.eos_token_id = None

    def _vllm(self, name, sizes, longest):
        from peer import write_folder
        from vllm import LLM

        folder = write_folder(self.options.scratch / f"{name}-config", sizes)
        total, cap = self.device.total_bytes, self.options.vram_mib
        return LLM(
            model=str(folder),
            load_format="dummy",
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=longest,
            gpu_memory_utilization=0.9 if cap is None else (cap * 2**20 - OUTSIDE_BYTES) / total,
            enable_prefix_caching=True,
            seed=0,
        )

    def free_share(self):
        """Of what is free, what the cap leaves to a cache."""
        import torch

        from tenbin.memory import CUDA_CONTEXT_BYTES

        if self.device.kind == "cpu":
            return CPU_CACHE_BYTES / (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        free()
        left, total = torch.cuda.mem_get_info()
        cap = self.options.vram_mib
        allowed = total if cap is None else cap * 2**20
        room = allowed - CUDA_CONTEXT_BYTES - torch.cuda.memory_reserved()
        return max(0, min(room, left)) / left

    def rates(self, work, done, seconds):
        """Of the prompts that were answered; none where there are none."""
        from tenbin.bench_generate_works import RATES, rates

        part = replace(work, prompts=tuple(done))
        roof = self.device.warm_rate()
        measured = dict.fromkeys(RATES)
        if done:
            measured = rates(part, self.shape, seconds, matrix_rate=roof)
        counts = {"num_examples": len(work.prompts), "counted_examples": len(done)}
        return counts | {"new_tokens": work.new_tokens} | measured | memory(self.device, roof)


def run(options, lines):
    """Measure all; what fails becomes a line with its reason."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, which the cap holds
    find_source()
    from tenbin.bench_generate_works import generate_work
    from tenbin.bench_sizes import model_sizes
    from tenbin.device import find_device

    device = find_device()
    lines.come_from(device, PACKAGES[options.variant])
    if options.variant == "vllm" and find_spec("vllm") is None:
        lines.add_rest("vllm is not installed")
        return
    for name in options.model:
        size = {"vocabulary": model_sizes(name)["vocab_size"], "lengths": options.lengths}
        works = [generate_work(work, count=options.questions, **size) for work in options.work]
        built, reason = attempt(lambda name=name, works=works: Built(options, name, device, works))
        if built is None:
            lines.add_rest(reason, of_model=name)
        for work in works if built is not None else ():
            device.reset_peak()
            if options.variant == "transformers":
                each_batch_size(built, name, work, options, lines)
            else:
                found, reason = attempted(built, work)
                lines.add(name, work.name, found if found is not None else lines.nothing(reason))
            free()
        del built
        free()


def attempted(built, work):
    """Of a tool that makes its own batches: its figures, or None and the reason."""
    if built.options.variant == "vllm":
        return attempt(lambda: measure_vllm(built, work))
    for share in SHARES:  # it does not know of all that it needs beside its cache
        found, reason = attempt(lambda share=share: measure_continuous(built, work, share))
        if found is not None or "out of memory" not in reason:
            break
    return found, reason


def each_batch_size(built, name, work, options, lines):
    """A line each, then the best again."""
    measured, reason = [], None
    for batch_size in options.batch_size:
        built.device.reset_peak()
        try:
            result, reason = attempt(
                lambda size=batch_size: measure_batches(built, work, size, options, lines.alarm)
            )
        except TimeOver:  # in its warm-up
            if measured:
                add_best(name, work, measured, lines)
            raise
        found, over = result if result is not None else (lines.nothing(reason), False)
        found["batch_size"] = batch_size
        if found["tokens_per_s"] is not None:
            measured.append(found)
        elif "reason" not in found:
            found["reason"] = lines.over
        lines.add(name, work.name, found, more=True)
        if result is None:
            break  # nor would a larger one
        if over:
            add_best(name, work, measured, lines)
            raise TimeOver
    add_best(name, work, measured, lines, reason)


def add_best(name, work, measured, lines, reason=None):
    if measured:
        best = max(measured, key=lambda found: found["examples_per_s"])
        found = best | {"best_of": [one["batch_size"] for one in measured]}
    else:
        found = lines.nothing(reason or lines.over)
    lines.add(name, work.name, found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser, PACKAGES, WORKS)
    parser.add_argument("--questions", type=int, metavar="N", help="the first N alone")
    parser.add_argument("--batch-size", type=int, action="append", help=f"repeatable; {BATCH_SIZES}")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each batch size")
    options = parser.parse_args()
    options.model = options.model or ["7b"]
    options.work = options.work or [w for w in WORKS if w != "jsquad" or options.lengths is not None]
    options.batch_size = sorted(options.batch_size or BATCH_SIZES)
    if options.lengths is None and any("+" not in work for work in options.work):
        parser.error("questions need --lengths")
    system = "vllm" if options.variant == "vllm" else "transformers"
    figures = ("examples_per_s", "tokens_per_s", "prompt_tokens_per_s", "seconds", "mfu")
    figures += ("planned_mib", "peak_mib", "roof_tflops")
    lines = Lines(options, bench="generate", system=system, figures=figures, dtype="bf16", adapters=0)
    lines.of(lambda: run(options, lines))


if __name__ == "__main__":
    main()
