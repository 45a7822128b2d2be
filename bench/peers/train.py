"""Training speed of other tools on the works of `tenbin bench train`: a process a tool, a JSON line a work.

    python bench/peers/train.py VARIANT --model 7b --lengths lengths.json --vram-mib 46000 \\
        --time-limit 60 --output bench/results/train-GPU.jsonl

VARIANT is peft, peft_ckpt (with gradient checkpointing), liger (PEFT on Liger's kernels), unsloth_plain or
unsloth_ckpt. Rank 16 on all seven linear maps, bf16, random weights, AdamW, the same tokens as tenbin's
bench and the same hard cap. A model is built once for all its works, which are measured in the order they
are named: put the important ones first. Lines are those of `tenbin bench train`, with `variant` beside
`system`, and `note` where the work is not quite the same; they are flushed one by one. When the time is over
the work at hand ends with the steps it has, and what was not measured is a line with the reason.

Questions (`jsquad`): PEFT and Liger as the paper ran, batches of 16 padded to the longest of each; Unsloth,
for which that would not be its best, rows of 4,096 tokens packed with whole examples in random order.
Attention may cross from one example to the next there: it costs nothing, and a user would have to prevent it.

Unsloth loads from a folder only: the first of its variants writes the random weights into --scratch (13 GB
for 7B; a folder in memory is quickest) and the other finds them there. Give the first one a longer limit.

Needs: pip install -c constraints.txt -e ".[train,bench]"; Liger and Unsloth for their variants.
"""

import argparse
import gc
import json
import math
import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

STARTED = time.monotonic()
SYSTEMS = {
    "peft": "peft",
    "peft_ckpt": "peft",
    "liger": "liger",
    "unsloth_plain": "unsloth",
    "unsloth_ckpt": "unsloth",
}
PACKAGES = {
    "peft": ("peft",),
    "liger": ("peft", "liger-kernel"),
    "unsloth": ("peft", "unsloth", "unsloth_zoo"),
}
WORKS = ("1x4096", "1x1700", "16x256", "jsquad")
LEAST_STEPS = 2
"""Counted steps, below which no rate is given."""


class TimeOver(BaseException):
    """The time limit has passed. No library may catch it as an error of its own."""


class Alarm:
    """Raises TimeOver when the limit has passed, and again, should something swallow it, until `stop`."""

    EVERY_S = 2.0

    def __init__(self, limit_s):
        self.held = False
        signal.signal(signal.SIGALRM, self._over)
        if limit_s is not None:
            left = max(0.001, limit_s - (time.monotonic() - STARTED))
            signal.setitimer(signal.ITIMER_REAL, left, self.EVERY_S)

    def _over(self, signum, frame):
        if not self.held:
            raise TimeOver

    @contextmanager
    def later(self):
        """The block is done whole; the next signal comes soon."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def stop(self):
        """No more of it."""
        signal.setitimer(signal.ITIMER_REAL, 0)


def prepare_environment(system, scratch):
    """Before anything heavy is imported; Unsloth wants to be the first."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    source = Path(__file__).parents[2] / "src"
    if str(source) not in sys.path:
        sys.path.append(str(source))
    if system == "unsloth":
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(scratch / "unsloth-compiled"))
        import unsloth  # noqa: F401


# --- measuring ---


def measure(peer, work, num_steps, alarm):
    """Rates of a work; those of the steps so far where the time is over (then `over` is true)."""
    import torch
    from batches import batches

    from tenbin.bench_steps import StepTimes, mean_context
    from tenbin.memory import MIB

    gpu = peer.device.kind == "cuda"
    made, note = batches(work, peer.system, peer.device)
    parameters = [p for p in peer.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=gpu)
    times, over, loss = StepTimes(), False, None
    if gpu:
        torch.cuda.empty_cache()
    peer.device.reset_peak()
    try:
        for number in range(num_steps):
            batch, tokens, targets, examples = made[number % len(made)]
            wait(gpu)
            started = time.perf_counter()
            value = peer.step(optimizer, batch)
            wait(gpu)
            seconds = time.perf_counter() - started
            with alarm.later():
                times.add(seconds, tokens=tokens, targets=targets, examples=examples)
                loss = value.item()
    except TimeOver:
        alarm.stop()
        over = True
    context = mean_context([len(e) for e in work.examples])
    if times.num_counted < LEAST_STEPS and over:
        times = StepTimes()
    free, total = torch.cuda.mem_get_info() if gpu else (0, 0)
    found = {
        "batch_size": made[0][3],
        **times.rates(peer.shape, context=context, matrix_rate=peer.roof),
        "planned_mib": None,
        "peak_mib": round(peer.device.peak_mib()),
        "driver_mib": round((total - free) / MIB),
        "allocated_mib": round(torch.cuda.max_memory_allocated() / MIB) if gpu else None,
        "roof_tflops": float(f"{peer.roof / 1e12:.4g}"),
        "counted_steps": times.num_counted,
        "loss": loss if loss is not None and math.isfinite(loss) else None,
    }
    if note is not None:
        found["note"] = note
    return found, over


def wait(gpu):
    if gpu:
        import torch

        torch.cuda.synchronize()


def nothing(reason):
    keys = ("tokens_per_s", "examples_per_s", "step_s", "mfu", "planned_mib", "peak_mib", "roof_tflops")
    return {**dict.fromkeys(keys), "reason": reason}


class Lines:
    """The lines of one process: what all of them say, and what is still to be measured."""

    def __init__(self, options, alarm):
        self.options, self.alarm = options, alarm
        self.same = {}
        self.measured = 0
        self.left = [(model, work) for model in options.model for work in options.work]

    def add(self, model, work, found):
        """Print a line, and add it to the file."""
        with self.alarm.later():
            self.left.remove((model, work))
            self.measured += found.get("tokens_per_s") is not None
            line = {
                "bench": "train",
                "system": SYSTEMS[self.options.variant],
                "variant": self.options.variant,
                "model": model,
                "work": work,
                "dtype": "bf16",
                "adapters": 1,
                **found,
                "cap_mib": self.options.vram_mib,
                **self.same,
            }
            text = json.dumps(line)
            print(text, flush=True)
            if self.options.output is not None:
                self.options.output.parent.mkdir(parents=True, exist_ok=True)
                with self.options.output.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")

    def add_rest(self, reason, of_model=None):
        """Lines for what was not measured."""
        for model, work in list(self.left):
            if of_model in (None, model):
                self.add(model, work, nothing(reason))


def run(options, lines):
    """Measure all; what fails becomes a line with its reason."""
    prepare_environment(SYSTEMS[options.variant], options.scratch)
    import torch
    from peer import Peer

    from tenbin.bench_record import revision, versions
    from tenbin.device import find_device

    device = find_device()
    device.cap(options.vram_mib)
    lines.same = {
        "gpu": device.name,
        "versions": versions(*PACKAGES[SYSTEMS[options.variant]]),
        "commit": options.commit or revision(),
    }
    for name in options.model:
        works = works_of(options, name)
        peer, reason = attempt(
            lambda name=name, works=works: Peer(SYSTEMS[options.variant], options, name, device, works)
        )
        if peer is None:
            lines.add_rest(reason, of_model=name)
        for work in works if peer is not None else ():
            result, reason = attempt(
                lambda peer=peer, work=work: measure(peer, work, options.steps, lines.alarm)
            )
            found, over = result if result is not None else (nothing(reason), False)
            if found.get("tokens_per_s") is None and "reason" not in found:
                found["reason"] = f"the time limit of {options.time_limit:g} s passed"
            lines.add(name, work.name, found)
            if over:
                raise TimeOver
            gc.collect()
            if device.kind == "cuda":
                torch.cuda.empty_cache()
        del peer
        gc.collect()
        if device.kind == "cuda":
            torch.cuda.empty_cache()


def works_of(options, name):
    from batches import PACKED_TOKENS, PADDED_BATCH

    from tenbin.bench_sizes import model_sizes
    from tenbin.bench_works import QUESTIONS, questions, rows

    vocabulary = model_sizes(name)["vocab_size"]
    size = {"most_tokens": PACKED_TOKENS, "batch_size": PADDED_BATCH, "vocabulary": vocabulary}
    return [
        questions(options.lengths, **size) if work == QUESTIONS else rows(work, vocabulary)
        for work in options.work
    ]


def attempt(make):
    """(what it makes, None), or (None, why not). The failed attempt's tensors are free afterwards."""
    import torch

    try:
        return make(), None
    except torch.OutOfMemoryError as error:
        reason = f"out of memory under the cap: {str(error).splitlines()[0]}"
    except Exception as error:  # a tool of others: whatever it raises is its result
        reason = said(error)
        print(reason, file=sys.stderr)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, reason


def said(error):
    return f"{type(error).__name__}: {error}"[:300]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variant", choices=SYSTEMS)
    parser.add_argument("--model", action="append", help="7b, 13b or tiny (repeatable; 7b)")
    parser.add_argument("--work", action="append", help=f"repeatable; {', '.join(WORKS)}")
    parser.add_argument("--lengths", type=Path, help="what bench/question_lengths.py printed, for jsquad")
    parser.add_argument("--vram-mib", type=int)
    parser.add_argument("--steps", type=int, default=6, help="of each work; the first two are not counted")
    parser.add_argument(
        "--time-limit", type=float, metavar="S", help="of the whole process, imports included"
    )
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "tenbin-peers")
    parser.add_argument("--commit", help="revision to note, where the source is not in a git tree")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="add the lines to this file too")
    options = parser.parse_args()
    options.model = options.model or ["7b"]
    options.work = options.work or [w for w in WORKS if w != "jsquad" or options.lengths is not None]
    if "jsquad" in options.work and options.lengths is None:
        parser.error("jsquad needs --lengths")
    if options.steps <= LEAST_STEPS:
        parser.error("--steps: the first two are not counted, take more")
    lines = Lines(options, Alarm(options.time_limit))
    try:
        run(options, lines)
    except TimeOver:
        lines.alarm.stop()
        lines.add_rest(f"the time limit of {options.time_limit:g} s passed")
    except Exception as error:  # such as a tool that is not installed
        lines.alarm.stop()
        lines.add_rest(said(error))
        raise
    sys.exit(0 if lines.measured else 1)


if __name__ == "__main__":
    main()
