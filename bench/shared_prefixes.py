"""Training speed on questions about passages with and without shared prefixes, in turn, on this machine.

    python bench/shared_prefixes.py LENGTHS.json [--model gemma-3-270m] [--steps 8] [--batch-size 16]

LENGTHS.json is what bench/question_lengths.py prints: real lengths of passages, questions and answers. Random
weights and tokens; steps with and without take turns over the same examples, so that other work on the
machine meets both. Prints one JSON line: examples/s of each (medians), their ratio, and the largest
difference of their losses.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from tenbin.bench import TrainBench
from tenbin.bench_works import questions
from tenbin.device import find_device
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH
from tenbin.train.room import Room
from tenbin.train.step import train_step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("lengths", type=Path)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    device = find_device()
    most = GPU_MICRO_BATCH if device.kind == "cuda" else CPU_MICRO_BATCH
    bench = TrainBench.build(options.model, device, base="same", cap_bytes=None)
    work = questions(options.lengths, most_tokens=most, batch_size=options.batch_size)
    jobs = {share: bench._job(f"shared-{share}", 0, work, options.steps) for share in (True, False)}
    seconds = {share: [] for share in jobs}
    tokens = dict.fromkeys(jobs, 0)
    losses = {share: [] for share in jobs}
    for _ in range(options.steps + 1):
        for share, job in jobs.items():
            started = time.perf_counter()
            (stats,) = train_step(bench.decoder, [job], work.examples, Room(most, share_prefixes=share))
            seconds[share].append(time.perf_counter() - started)
            losses[share].append(stats.loss)
            tokens[share] += stats.num_tokens
    speeds = {s: options.batch_size / statistics.median(times[1:]) for s, times in seconds.items()}
    line = {
        "bench": "shared-prefixes",
        "model": options.model,
        "device": device.name,
        "batch_size": options.batch_size,
        "examples_per_s_shared": round(speeds[True], 3),
        "examples_per_s_separate": round(speeds[False], 3),
        "ratio": round(speeds[True] / speeds[False], 2),
        "tokens_ratio": round(tokens[False] / tokens[True], 2),
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses.values(), strict=True)),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
