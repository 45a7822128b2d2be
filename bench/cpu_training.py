"""Training speed on a CPU: tenbin beside Hugging Face's Trainer with PEFT, in turn, at equal settings.

    python bench/cpu_training.py MODEL_FOLDER [--examples 96] [--epochs 2] [--rounds 1]

Each system is a process of its own: the shipped reviews, the same prompts and answers as token ids, the
same order of examples, the same start of the adapter, AdamW at one constant rate, clipping, and loss on the
answer only. Prints one JSON line a system: examples/s of training, and the mean loss afterwards on examples
that were not trained on, in nats a token. The last line has the ratios. Both run in float32 (Trainer's
default; here the losses must agree) and in bf16 (what tenbin chooses by itself where the processor has it).

Needs: pip install -c constraints.txt -e ".[train,bench]"
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

SYSTEMS = ("tenbin-bf16", "trainer-bf16", "tenbin-fp32", "trainer-fp32")
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
NUM_EVALUATED = 64
RATE = 2e-4
BATCH = 8


def encoded_reviews(tokenizer, count):
    """Reviews as the demo asks them, `count` for training and then those for evaluation."""
    from tenbin.models.encode import Encoder
    from tenbin.tasks import classification
    from tenbin.types import Example

    categories = ("negative", "positive")
    task = classification.task(classification.plain(categories), categories, None)
    encoder = Encoder(tokenizer)
    path = Path(__file__).parents[1] / "src/tenbin/samples/reviews.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    examples = [
        encoder.example(task, Example(id=r["id"], inputs={"text": r["text"]}, references=(r["category"],)))
        for r in rows
    ]
    return examples[:count], examples[-NUM_EVALUATED:]


def load(folder, dtype):
    from tenbin.models.loading import load_model, resolve_source

    source = resolve_source(str(folder), cache_dir=Path(tempfile.gettempdir()), offline=True)
    return load_model(source, dtype=dtype)


def config(epochs):
    from tenbin.config import TrainingConfig

    return TrainingConfig(epochs=epochs, batch_size=BATCH, schedule="constant", warmup=0.0)


def start_adapter(model):
    from tenbin.config import LoraConfig
    from tenbin.models.lora import activate, add_adapter, inject

    inject(model)
    add_adapter(model, "a", LoraConfig(rank=16, alpha=32.0), seed=0)
    activate(model, "a")


def run_tenbin(folder, count, epochs, dtype):
    from tenbin.decoder.decoder import Decoder
    from tenbin.memory import CPU_MICRO_BATCH
    from tenbin.models.lora import trainable
    from tenbin.train.job import TrainJob
    from tenbin.train.packing import alone, pack
    from tenbin.train.room import Room
    from tenbin.train.step import train_step

    loaded = load(folder, dtype)
    trained, evaluated = encoded_reviews(loaded.tokenizer, count)
    start_adapter(loaded.model)
    job = TrainJob("a", trainable(loaded.model, "a"), config(epochs), rate=RATE, seed=0)
    decoder, room = Decoder(loaded.model), Room(CPU_MICRO_BATCH)
    begun = time.perf_counter()
    for _ in range(job.num_steps(len(trained))):
        train_step(decoder, [job], trained, room)
    seconds = time.perf_counter() - begun
    decoder.refresh()
    total = sum(decoder.losses(pack([e], alone([e]), "response")).sum().item() for e in evaluated)
    return seconds, total / sum(len(e.target_ids) for e in evaluated)


def run_trainer(folder, count, epochs, dtype):
    import transformers
    from peft import PeftModel

    from tenbin.models.adapters import write_adapter
    from tenbin.train.job import TrainJob

    ours = load(folder, dtype)
    trained, evaluated = encoded_reviews(ours.tokenizer, count)
    start_adapter(ours.model)
    with tempfile.TemporaryDirectory() as start:
        write_adapter(ours.model, "a", Path(start) / "a", base_model=str(folder))
        plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        model = PeftModel.from_pretrained(plain, Path(start) / "a", is_trainable=True)
    del ours
    order = TrainJob("a", {"p": torch.nn.Parameter(torch.zeros(1))}, config(epochs), rate=RATE, seed=0)
    steps = range(order.num_steps(len(trained)))
    batches = [[trained[i] for i in order.batch(len(trained), step)] for step in steps]
    data = [example for batch in batches for example in batch]  # all epochs, in tenbin's order

    def rows(examples):
        return [
            {
                "input_ids": [*e.prompt_ids, *e.target_ids],
                "labels": [-100] * len(e.prompt_ids) + list(e.target_ids),
            }
            for e in examples
        ]

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *args):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            use_cpu=True,
            seed=0,
        )
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=rows(data),
            data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, padding=True),
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    model.eval()
    total = 0.0
    with torch.no_grad():
        for row, example in zip(rows(evaluated), evaluated, strict=True):
            batch = {name: torch.tensor([value]) for name, value in row.items()}
            total += model(**batch).loss.item() * len(example.target_ids)
    return seconds, total / sum(len(e.target_ids) for e in evaluated)


def one(system, folder, count, epochs):
    torch.manual_seed(0)
    tool, dtype = system.split("-")
    run = run_tenbin if tool == "tenbin" else run_trainer
    seconds, loss = run(folder, count, epochs, TYPES[dtype])
    return {
        "bench": "cpu-training",
        "system": system,
        "model": Path(folder).name,
        "examples": count,
        "epochs": epochs,
        "dtype": dtype,
        "examples_per_s": round(count * epochs / seconds, 3),
        "loss_after": round(loss, 5),
        "threads": torch.get_num_threads(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a Hugging Face folder, such as the one `make model` prints")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--system", choices=SYSTEMS, help="run only this one, in this process")
    options = parser.parse_args()
    if options.system:
        print(json.dumps(one(options.system, options.model, options.examples, options.epochs)))
        return
    found = {system: [] for system in SYSTEMS}
    for _ in range(options.rounds):
        for system in SYSTEMS:
            command = [sys.executable, __file__, options.model, "--system", system]
            command += ["--examples", str(options.examples), "--epochs", str(options.epochs)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            line = done.stdout.strip().splitlines()[-1]
            print(line, flush=True)
            found[system].append(json.loads(line))
    speeds = {s: sorted(r["examples_per_s"] for r in rows)[len(rows) // 2] for s, rows in found.items()}
    ratios = {f"speed_{t}": round(speeds[f"tenbin-{t}"] / speeds[f"trainer-{t}"], 2) for t in TYPES}
    ratios["speed_defaults"] = round(speeds["tenbin-bf16"] / speeds["trainer-fp32"], 2)
    after = {system: rows[0]["loss_after"] for system, rows in found.items()}
    losses = {f"loss_{t}": round(after[f"tenbin-{t}"] / after[f"trainer-{t}"], 4) for t in TYPES}
    print(json.dumps({"bench": "cpu-training", **ratios, **losses}))


if __name__ == "__main__":
    main()
