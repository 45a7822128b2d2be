"""Loss and task score after real steps on a real model, its frozen weights in bf16, fp8 or nf4; and by order.

    python bench/fp8_quality.py MODEL_FOLDER --data watchers --train TRAIN.jsonl.gz --test TEST.jsonl.gz \\
        [--base bf16 --base fp8 --base nf4] [--steps 200] [--batch-size 8] [--asked 400]
    python bench/fp8_quality.py MODEL_FOLDER --data squad --train TRAIN.json.gz --test TEST.json.gz \\
        --base bf16 --order grouped --order shuffled

Every run starts from the same weights, adapter, seed and examples, trains so many optimizer steps, and
answers the same held-out questions. `watchers`: the Economy Watchers Survey, reasons as good or bad (those
in between are left out); `squad`: questions about passages in SQuAD's JSON. Examples longer than --max-length
tokens are left out and counted. Prints one JSON line a run (--output adds it to a file, such as
bench/results/fp8-quality.jsonl), then how each run compares with the first: its loss (before the training,
over all tokens of 50 held-out examples; mean of the last 20 steps; over the held-out answers) and whether its
score lies inside the first one's interval. A second --seed shows what chance alone does; --steps 0 trains
nothing.

Needs: pip install -c constraints.txt -e ".[train,nf4]"
"""

import argparse
import gzip
import json
import random
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from tenbin.bench_record import append_line, revision, versions
from tenbin.config import LoraConfig, TrainingConfig
from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.device import find_device
from tenbin.evaluation import evaluate
from tenbin.generate.local import LocalGenerator
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH
from tenbin.models.encode import Encoder
from tenbin.models.loading import load_model, resolve_source
from tenbin.models.lora import activate, add_adapter, inject, trainable
from tenbin.tasks import classification, reading
from tenbin.train.job import TrainJob
from tenbin.train.packing import alone, pack
from tenbin.train.room import Room
from tenbin.train.step import train_step
from tenbin.types import Example

BASES = {"bf16": "same", "fp8": "fp8", "nf4": "nf4"}
LAST = 20
UNTRAINED = 50
"""Held-out examples whose every token is predicted before the training."""
GRADES = {"◎": "良い", "○": "良い", "▲": "悪い", "×": "悪い"}
CATEGORIES = ("良い", "悪い")


def opened(path):
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def watchers(path):
    with opened(path) as file:
        rows = [json.loads(line) for line in file]
    return [
        Example(
            id=str(row["id"]),
            inputs={"text": row["追加説明及び具体的状況の説明"]},
            references=(GRADES[row["景気の現状判断"]],),
        )
        for row in rows
        if row["景気の現状判断"] in GRADES
    ]


def squad(path):
    with opened(path) as file:
        articles = json.load(file)["data"]
    return [
        Example(
            id=str(question["id"]),
            inputs={"passage": paragraph["context"], "question": question["question"]},
            references=tuple(dict.fromkeys(answer["text"] for answer in question["answers"])),
            group=f"{number}-{place}",
        )
        for number, article in enumerate(articles)
        for place, paragraph in enumerate(article["paragraphs"])
        for question in paragraph["qas"]
    ]


DATA = {
    "watchers": (watchers, classification.task(classification.plain(CATEGORIES), CATEGORIES, None)),
    "squad": (squad, reading.task(reading.PLAIN, None)),
}


def drawn(examples, count, fits):
    """So many that fit, at random, those of a group together; and how many looked at did not fit."""
    groups = {}
    for example in examples:
        groups.setdefault(example.group or example.id, []).append(example)
    order = sorted(groups)
    random.Random(0).shuffle(order)
    found, left_out = [], 0
    for name in order:
        there = [example for example in groups[name] if fits(example)]
        left_out += len(groups[name]) - len(there)
        found += there
        if len(found) >= count:
            break
    return found[:count], left_out


def held_out_loss(decoder, encoded, loss_on="response"):
    """Mean over the tokens of all answers, or over all tokens, in nats."""
    total = count = 0
    for start in range(0, len(encoded), 8):
        some = encoded[start : start + 8]
        batch = pack(some, alone(some), loss_on).to(decoder.device)
        total += decoder.losses(batch).double().sum().item()
        count += batch.num_targets
    return total / count


def run(options, base, order, seed, device):
    """One training and its answers."""
    read, task = DATA[options.data]
    source = resolve_source(str(options.model), cache_dir=Path(tempfile.gettempdir()), offline=True)
    loaded = load_model(source, dtype=torch.bfloat16, device=device.torch)
    encoder = Encoder(loaded.tokenizer)

    def fits(example):
        return len(encoder.example(task, example)) <= options.max_length

    trained, train_left = drawn(read(options.train), options.steps * options.batch_size, fits)
    if len(trained) < options.steps * options.batch_size:
        raise SystemExit(f"{options.train}: only {len(trained)} examples fit {options.max_length} tokens")
    asked, asked_left = drawn(read(options.test), options.asked, fits)
    inject(loaded.model)
    decoder = Decoder(loaded.model, make_frozen(BASES[base]))
    before = held_out_loss(decoder, [encoder.example(task, example) for example in asked[:UNTRAINED]], "all")
    add_adapter(loaded.model, "a", LoraConfig(), seed=seed)
    config = TrainingConfig(epochs=1, batch_size=options.batch_size, order=order, loss_on=options.loss_on)
    job = TrainJob("a", trainable(loaded.model, "a"), config, rate=options.rate, seed=seed)
    room = Room(GPU_MICRO_BATCH if device.kind == "cuda" else CPU_MICRO_BATCH)
    encoded = [encoder.example(task, example) for example in trained]
    if order == "shuffled":  # without groups nothing stays together
        encoded = [replace(example, group=None) for example in encoded]
    started, losses = time.perf_counter(), []
    for _ in range(options.steps):
        (stats,) = train_step(decoder, [job], encoded, room)
        losses.append(stats.loss)
    train_s = time.perf_counter() - started
    decoder.refresh()
    held_out = held_out_loss(decoder, [encoder.example(task, example) for example in asked])
    activate(loaded.model, "a")
    generator = LocalGenerator(
        loaded.model, encoder, model_id=base, batch_size=options.asked_at_once, batch_tokens=16_384
    )
    started = time.perf_counter()
    result = evaluate(task, asked, generator, split="test", dataset="held out")
    headline = result.metrics[0]
    assert headline.estimate is not None, headline.reason
    return {
        "bench": "base-quality",
        "model": options.model.name,
        "data": options.data,
        "base": base,
        "order": order,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": options.rate,
        "loss_on": options.loss_on,
        "seed": seed,
        "max_length": options.max_length,
        "left_out": [train_left, asked_left],
        "untrained_loss": before,
        "first_loss": losses[0] if losses else None,
        f"loss_last_{LAST}": statistics.fmean(losses[-LAST:]) if losses else None,
        "held_out_loss": held_out,
        "metric": headline.metric,
        "score": headline.estimate.value,
        "interval": [headline.estimate.low, headline.estimate.high],
        "n": headline.estimate.n,
        "unparsed": result.num_unparsed,
        "errors": result.num_errors,
        "train_s": round(train_s, 1),
        "evaluate_s": round(time.perf_counter() - started, 1),
        "device": device.name,
        "versions": versions("bitsandbytes"),
        "commit": revision(),
    }


def compared(first, line):
    """`fp8 grouped seed 0 against bf16 grouped seed 0: loss 0.2134 against 0.2130 (+0.19 %), ...`."""
    low, high = first["interval"]
    names = [f"{x['base']} {x['order']} seed {x['seed']}" for x in (line, first)]
    parts = [
        f"{name} {line[key]:.4f} against {first[key]:.4f} ({line[key] / first[key] - 1:+.2%})"
        for name, key in (
            ("untrained loss", "untrained_loss"),
            ("loss", f"loss_last_{LAST}"),
            ("held-out loss", "held_out_loss"),
        )
        if line.get(key) is not None and first.get(key) is not None
    ]
    where = "inside" if low <= line["score"] <= high else "OUTSIDE"
    parts.append(
        f"{line['metric']} {line['score']:.4f} against {first['score']:.4f}, {where} {low:.4f} to {high:.4f}"
    )
    return f"{names[0]} against {names[1]}: {', '.join(parts)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="folder, or .gguf file")
    parser.add_argument("--data", choices=DATA, default="watchers")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--base", choices=BASES, action="append")
    parser.add_argument("--order", choices=("grouped", "shuffled"), action="append")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--loss-on", choices=("response", "all"), default="response")
    parser.add_argument("--seed", type=int, action="append", help="order and start (repeatable)")
    parser.add_argument("--asked", type=int, default=400, help="held-out questions")
    parser.add_argument("--asked-at-once", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=512, help="tokens, prompt and answer")
    parser.add_argument("--output", type=Path, help="also add the lines to this file")
    options = parser.parse_args()
    device = find_device()
    lines = []
    asked_for = product(options.seed or [0], options.order or ["grouped"], options.base or ["bf16", "fp8"])
    for seed, order, base in asked_for:
        lines.append(run(options, base, order, seed, device))
        print(json.dumps(lines[-1], ensure_ascii=False), flush=True)
        if options.output is not None:
            append_line(options.output, lines[-1])
    for line in lines[1:]:
        print(compared(lines[0], line))


if __name__ == "__main__":
    main()
