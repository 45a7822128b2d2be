"""Loss and task score after real steps on a real model, its frozen weights in bf16, fp8 or nf4; and by order.

    python bench/fp8_quality.py MODEL_FOLDER --data watchers --train TRAIN.jsonl.gz --test TEST.jsonl.gz \\
        --loss-on all --seed 0 --seed 1 --seed 2 [--base bf16 --base fp8 --base nf4] [--steps 200]
    python bench/fp8_quality.py MODEL_FOLDER --data squad --train TRAIN.json.gz --test TEST.json.gz \\
        --order grouped --order shuffled --seed 0 --seed 1

Runs of one seed start from the same adapter and see the same batches in the same order, each type of weights
on the same model; so they are compared in pairs. After so many optimizer steps each has its loss on
held-out examples and answers held-out questions. `watchers`: the Economy Watchers Survey, reasons as good or
bad (those in between are left out); `squad`: questions about passages in SQuAD's JSON. Examples longer than
--max-length tokens are left out and counted.

Printed, and added to --output (such as bench/results/fp8-quality.jsonl), as JSON lines: each run; then each
pair that differs in one thing, with the ratio of its losses: of the last 20 steps, which had the same
batches, and of the held-out examples, each with the interval that drawing steps or examples anew gives; then
the mean of these ratios over all pairs of a kind. Pairs of two seeds in the first type show what chance
alone does: a difference between types that is much smaller is none. A loss on answers of one word is a few
tokens near their floor, and says little; `--loss-on all` is measured on every token.

Models are loaded and data is read once. With --time-limit no run is begun that would probably not end in
time, and one that does not is dropped; what was left out is said. Seeds come last in order, so that what
there is stays paired.

Needs: pip install -c constraints.txt -e ".[train,nf4]"
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))  # as a script it finds only what stands beside it
from bench import quality_data, quality_pairs
from tenbin.bench_record import append_line, revision, versions
from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.device import find_device
from tenbin.evaluation import evaluate
from tenbin.generate.local import LocalGenerator
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH
from tenbin.models.encode import Encoder
from tenbin.models.loading import LoadedModel, load_model, resolve_source
from tenbin.models.lora import activate, add_adapter, inject, remove_adapter, trainable
from tenbin.models.tokenizer import load_tokenizer
from tenbin.train.job import TrainJob
from tenbin.train.packing import alone, micro_batches, pack
from tenbin.train.room import Room
from tenbin.train.step import begin_step

BASES = {"bf16": "same", "fp8": "fp8", "nf4": "nf4"}
LAST = 20
ADAPTER = "a"
STARTED = time.monotonic()


class TimeOver(Exception):
    """The time limit passed within a run."""


@dataclass(frozen=True, slots=True)
class Built:
    """The model in one type of weights."""

    loaded: LoadedModel
    decoder: Decoder
    untrained: float
    """Loss over all tokens of the held-out examples, in nats."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run: its line, and what pairs need of it."""

    line: dict
    losses: list[float]
    """Of the last steps."""
    sums: list[float]
    """Of each held-out example, in nats."""
    groups: list[str]


@dataclass(slots=True)
class Bench:
    """What all runs share."""

    options: argparse.Namespace
    device: object
    encoder: Encoder
    train: quality_data.Drawn
    held_out: quality_data.Drawn
    built: dict[str, Built] = field(default_factory=dict)

    @property
    def room(self):
        """Fresh for each run."""
        return Room(GPU_MICRO_BATCH if self.device.kind == "cuda" else CPU_MICRO_BATCH)

    def of(self, base):
        """The model in this type, loaded once."""
        if base not in self.built:
            loaded = load_model(source_of(self.options), dtype=torch.bfloat16, device=self.device.torch)
            inject(loaded.model)
            decoder = Decoder(loaded.model, make_frozen(BASES[base]))
            sums, count = losses_of(decoder, self.held_out.encoded, "all", self.room.most_tokens)
            self.built[base] = Built(loaded, decoder, sum(sums) / count)
        return self.built[base]


def source_of(options):
    return resolve_source(str(options.model), cache_dir=Path(tempfile.gettempdir()), offline=True)


def losses_of(decoder, encoded, loss_on, most_tokens):
    """(sum of each example's losses in nats, targets in all)."""
    sums, count = [0.0] * len(encoded), 0
    for row in micro_batches(encoded, alone(encoded), most_tokens):
        batch = pack(encoded, row, loss_on).to(decoder.device)
        members = [i for bundle in row for i in bundle.members]
        sizes = [
            len(encoded[i].target_ids) if loss_on == "response" else len(encoded[i]) - 1 for i in members
        ]
        losses = decoder.losses(batch).double().cpu()
        for i, part in zip(members, torch.split(losses, sizes), strict=True):
            sums[i] = part.sum().item()
        count += batch.num_targets
    return sums, count


def prepare(options):
    """Read, draw and encode."""
    device = find_device()
    read, task = quality_data.DATA[options.data]
    encoder = Encoder(load_tokenizer(source_of(options).tokenizer))

    def encode(example):
        return encoder.example(task, example)

    count = options.steps * options.batch_size
    train = quality_data.drawn(read(options.train), count, encode, options.max_length)
    if len(train.examples) < count:
        raise SystemExit(
            f"{options.train}: only {len(train.examples)} examples fit {options.max_length} tokens"
        )
    most = max(options.asked, options.held_out)
    held_out = quality_data.drawn(read(options.test), most, encode, options.max_length)
    return Bench(options, device, encoder, train, held_out.first(most))


def over(options):
    return options.time_limit is not None and time.monotonic() - STARTED > options.time_limit


def trained(bench, built, loss_on, order, seed):
    """Train the adapter; the loss of every step."""
    options = bench.options
    config = TrainingConfig(epochs=1, batch_size=options.batch_size, order=order, loss_on=loss_on)
    parameters = trainable(built.loaded.model, ADAPTER)
    job = TrainJob(ADAPTER, parameters, config, rate=options.rate, seed=seed)
    encoded = list(bench.train.encoded)
    if order == "shuffled":  # without groups nothing stays together
        encoded = [replace(example, group=None) for example in encoded]
    room, begun, losses = bench.room, deque(), []
    for number in range(options.steps + 1):
        if number < options.steps:
            begun += begin_step(built.decoder, [job], encoded, room)
        if number and begun:  # a step is read while a GPU is at work on the next
            losses.append(begun.popleft().read(0.0).loss)
        if over(options):
            raise TimeOver
    return losses


def run(bench, loss_on, order, base, seed):
    """One training and its answers."""
    options, built = bench.options, bench.of(base)
    _, task = quality_data.DATA[options.data]
    model, decoder = built.loaded.model, built.decoder
    add_adapter(model, ADAPTER, LoraConfig(), seed=seed)
    try:
        started = time.perf_counter()
        losses = trained(bench, built, loss_on, order, seed)
        train_s = time.perf_counter() - started
        decoder.use((ADAPTER,))
        held_out = bench.held_out.first(options.held_out)
        sums, count = losses_of(decoder, held_out.encoded, loss_on, bench.room.most_tokens)
        activate(model, ADAPTER)
        generator = LocalGenerator(
            model, bench.encoder, model_id=base, batch_size=options.asked_at_once, decoder=decoder
        )
        started = time.perf_counter()
        asked = bench.held_out.first(options.asked)
        result = evaluate(task, list(asked.examples), generator, split="test", dataset="held out")
        evaluate_s = time.perf_counter() - started
    finally:
        activate(model, None)
        decoder.forget_gradients()
        decoder.use(())
        remove_adapter(model, ADAPTER)
    headline = result.metrics[0]
    if headline.estimate is None:
        raise SystemExit(f"--asked {options.asked}: {headline.reason}")
    line = {
        "bench": "base-quality",
        "model": options.model.name,
        "data": options.data,
        "base": base,
        "order": order,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": options.rate,
        "loss_on": loss_on,
        "seed": seed,
        "max_length": options.max_length,
        "left_out": [bench.train.left_out, bench.held_out.left_out],
        "train_tokens": sum(map(len, bench.train.encoded)),
        "untrained_loss": built.untrained,
        "first_loss": losses[0] if losses else None,
        f"loss_last_{LAST}": statistics.fmean(losses[-LAST:]) if losses else None,
        "held_out": len(held_out.encoded),
        "held_out_targets": count,
        "held_out_loss": sum(sums) / count,
        "metric": headline.metric,
        "score": headline.estimate.value,
        "interval": [headline.estimate.low, headline.estimate.high],
        "n": headline.estimate.n,
        "unparsed": result.num_unparsed,
        "errors": result.num_errors,
        "train_s": round(train_s, 1),
        "evaluate_s": round(evaluate_s, 1),
        "device": bench.device.name,
        "versions": versions("bitsandbytes"),
        "commit": options.commit or revision(),
    }
    return Result(line, losses[-LAST:], sums, held_out.groups)


def run_all(bench, say):
    """The results of all runs that there is time for."""
    options, results, longest, left_out = bench.options, [], 0.0, []
    for what in product(options.seed, options.loss_on, options.order, options.base):
        seed, loss_on, order, base = what
        started = time.monotonic()
        name = f"{base} {order} loss on {loss_on} seed {seed}"
        left = None if options.time_limit is None else options.time_limit - (started - STARTED)
        if left is not None and left < longest:
            left_out.append(name)
            continue
        try:
            results.append(run(bench, loss_on, order, base, seed))
        except TimeOver:
            left_out.append(name)
            continue
        longest = max(longest, time.monotonic() - started)
        say(results[-1].line)
    if left_out:
        print(f"left out, the time limit of {options.time_limit:g} s passed: {'; '.join(left_out)}")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="folder, or .gguf file")
    parser.add_argument("--data", choices=quality_data.DATA, default="watchers")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--base", choices=BASES, action="append", help="repeatable; bf16 and fp8")
    parser.add_argument("--order", choices=("grouped", "shuffled"), action="append", help="repeatable")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--loss-on", choices=("response", "all"), action="append", help="repeatable")
    parser.add_argument("--seed", type=int, action="append", help="order and start; repeatable")
    parser.add_argument("--asked", type=int, default=400, help="held-out questions that are answered")
    parser.add_argument("--asked-at-once", type=int, help="without it what the device takes")
    parser.add_argument("--held-out", type=int, default=1000, help="examples of the held-out loss")
    parser.add_argument("--max-length", type=int, default=512, help="tokens, prompt and answer")
    parser.add_argument("--time-limit", type=float, metavar="S", help="of the whole process")
    parser.add_argument("--commit", help="revision to note, where the source is not in a git tree")
    parser.add_argument("--output", type=Path, help="also add the lines to this file")
    options = parser.parse_args()
    for name, usual in (("base", ["bf16", "fp8"]), ("order", ["grouped"]), ("seed", [0])):
        setattr(options, name, getattr(options, name) or usual)
    options.loss_on = options.loss_on or ["response"]

    def say(line):
        print(json.dumps(line, ensure_ascii=False), flush=True)
        if options.output is not None:
            append_line(options.output, line)

    results = run_all(prepare(options), say)
    found = [quality_pairs.pair(*three) for three in quality_pairs.pairs(results)]
    for line in found:
        say(line)
    for line in found:
        print(quality_pairs.told(line))
    for line in quality_pairs.summaries(found):
        say(line)
        print(quality_pairs.summed_up(line))


if __name__ == "__main__":
    main()
