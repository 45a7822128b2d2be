"""Training speed of other tools on the works of `tenbin bench train`: a process a tool, a JSON line a work.

    python bench/peers/train.py VARIANT --model 7b --lengths lengths.json --vram-mib 46000 \\
        --time-limit 60 --output bench/results/train-GPU.jsonl

VARIANT is peft, peft_ckpt (with gradient checkpointing), liger (PEFT on Liger's kernels), liger_ckpt,
unsloth_plain or unsloth_ckpt. Rank 16 on all seven linear maps, bf16, random weights, AdamW, the same tokens
as tenbin's bench and the same hard cap. A model is built once for all its works, which are measured in the
order they are named: put the important ones first. Lines are those of `tenbin bench train`, with `variant`
beside `system`, and `note` where the work is not quite the same; they are flushed one by one. When the time
is over the work at hand ends with the steps it has, and what was not measured is a line with the reason.

Questions (`jsquad`): PEFT and Liger as the paper ran, batches of 16 padded to the longest of each; Unsloth,
for which that would not be its best, rows of 4,096 tokens packed with whole examples in random order.
Attention may cross from one example to the next there: it costs nothing, and a user would have to prevent it.

Unsloth loads from a folder: its config is written into --scratch, and its weights are made at random instead
of read. Where that fails they are written too, and loaded (13 GB for 7B, 26 GB for 13B); it is said then.

Needs: pip install -c constraints.txt -e ".[train,bench]"; Liger and Unsloth for their variants.
"""

import argparse
import math
import os
import time

from lines import Lines, TimeOver, add_arguments, attempt, find_source, free, memory, wait

SYSTEMS = {
    "peft": "peft",
    "peft_ckpt": "peft",
    "liger": "liger",
    "liger_ckpt": "liger",
    "unsloth_plain": "unsloth",
    "unsloth_ckpt": "unsloth",
}
PACKAGES = {
    "peft": ("peft",),
    "liger": ("peft", "liger-kernel"),
    "unsloth": ("peft", "unsloth", "unsloth_zoo"),
}
WORKS = ("1x4096", "1x1700", "16x256", "jsquad")
FIGURES = ("tokens_per_s", "examples_per_s", "step_s", "mfu", "planned_mib", "peak_mib", "roof_tflops")
LEAST_STEPS = 2
"""Counted steps, below which no rate is given."""


def prepare_environment(system, scratch):
    """Before anything heavy is imported; Unsloth wants to be the first."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    find_source()
    if system == "unsloth":
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(scratch / "unsloth-compiled"))
        import unsloth  # noqa: F401


def measure(peer, work, num_steps, alarm):
    """Rates of a work; those of the steps so far where the time is over (then `over` is true)."""
    import torch
    from batches import batches

    from tenbin.bench_steps import StepTimes, mean_context

    device = peer.device
    made, note = batches(work, peer.system, device)
    parameters = [p for p in peer.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=device.kind == "cuda")
    times, over, loss = StepTimes(), False, None
    free()
    device.reset_peak()
    try:
        wait(device)
        started, before = time.perf_counter(), None
        # The last of so many is not counted: a step that waits for the GPU itself leaves nothing to wait for.
        for number in range(num_steps + (device.kind != "cpu")):
            batch, *counts = made[number % len(made)]
            now = peer.step(optimizer, batch), counts
            if device.kind == "cpu":
                before, now = now, None
            with alarm.later():
                if before is not None:  # read while the device is at work on the next step, as in tenbin's
                    value, (tokens, targets, examples) = before
                    loss = value.item()
                    ended = time.perf_counter()
                    times.add(ended - started, tokens=tokens, targets=targets, examples=examples)
                    started = ended
            before = now
    except TimeOver:
        alarm.stop()
        over = True
    context = mean_context([len(e) for e in work.examples])
    if times.num_counted < LEAST_STEPS and over:
        times = StepTimes()
    roof = device.warm_rate()
    found = {
        "batch_size": made[0][3],
        **times.rates(peer.shape, context=context, matrix_rate=roof),
        **memory(device, roof),
        "counted_steps": times.num_counted,
        "loss": loss if loss is not None and math.isfinite(loss) else None,
    }
    if note is not None:
        found["note"] = note
    return found, over


def run(options, lines):
    """Measure all; what fails becomes a line with its reason."""
    prepare_environment(SYSTEMS[options.variant], options.scratch)
    from peer import Peer

    from tenbin.device import find_device

    device = find_device()
    lines.come_from(device, PACKAGES[SYSTEMS[options.variant]])
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
            found, over = result if result is not None else (lines.nothing(reason), False)
            if found.get("tokens_per_s") is None and "reason" not in found:
                found["reason"] = lines.over
            lines.add(name, work.name, found)
            if over:
                raise TimeOver
            free()
        del peer
        free()


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser, SYSTEMS, WORKS)
    parser.add_argument("--steps", type=int, default=6, help="of each work; the first two are not counted")
    options = parser.parse_args()
    options.model = options.model or ["7b"]
    options.work = options.work or [w for w in WORKS if w != "jsquad" or options.lengths is not None]
    if "jsquad" in options.work and options.lengths is None:
        parser.error("jsquad needs --lengths")
    if options.steps <= LEAST_STEPS:
        parser.error("--steps: the first two are not counted, take more")
    system = SYSTEMS[options.variant]
    lines = Lines(options, bench="train", system=system, figures=FIGURES, dtype="bf16", adapters=1)
    lines.of(lambda: run(options, lines))


if __name__ == "__main__":
    main()
