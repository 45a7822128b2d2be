"""Predicted against measured peak of a training step on a GPU, for models with random weights.

    python bench/memory.py [--models 7b 13b] [--vram-mib 46000] > bench/results/memory-GPU.jsonl

One JSON line a point: what `memory.plan_training` predicts, what the driver shows after five steps (the CUDA
context included), what the allocator held, and tokens/s beside the rate of a large bf16 matrix product
measured in the same run. Rank 16 on all linear maps, bf16, no recomputation, sixteen targets an example.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.device import find_device
from tenbin.memory import MIB, plan_training
from tenbin.models import attention
from tenbin.models.encode import Encoded
from tenbin.models.lora import activate, add_adapter, inject, trainable
from tenbin.models.shape import ModelShape
from tenbin.train.engine import train_step
from tenbin.train.job import TrainJob

LLAMA = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
CONFIGS = {
    "7b": LLAMA
    | {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "13b": LLAMA
    | {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "gpt2-13b": {
        "model_type": "gpt2",
        "n_embd": 5120,
        "n_layer": 40,
        "n_head": 40,
        "n_inner": 20480,
        "n_positions": 2048,
        "vocab_size": 50688,
    },
    "gemma-3-270m": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "max_position_embeddings": 32768,
        "sliding_window": 512,
    },
}
# (examples, tokens each)
POINTS = {
    "7b": ((1, 512), (1, 1024), (1, 1700), (16, 128), (8, 256), (1, 2048), (1, 3072), (1, 4096), (16, 256)),
    "13b": ((1, 512), (1, 1024), (8, 128), (1, 1700)),
    "gpt2-13b": ((1, 512), (1, 1024), (8, 128), (1, 1400)),
    "gemma-3-270m": ((1, 1024), (8, 1024), (64, 64), (1, 8192)),
}
TARGETS = 16


def matrix_rate():
    """TFLOP/s of a bf16 product of 8,192 x 8,192 matrices of random numbers."""
    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        x @ x
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        x @ x
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - started) / 1e12


def examples(rows, length):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 31000, (rows, length), generator=generator).tolist()
    return [Encoded(tuple(row[:-TARGETS]), tuple(row[-TARGETS:])) for row in ids]


def measure(model, rows, length):
    job = TrainJob("a", trainable(model, "a"), TrainingConfig(batch_size=rows, epochs=100), rate=1e-4, seed=0)
    data = examples(rows, length)
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        train_step(model, job, data, rows * length)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    free, total = torch.cuda.mem_get_info()
    return {
        "tokens_per_s": round(rows * length / statistics.median(seconds[1:])),
        "peak_mib": round((total - free) / MIB),
        "reserved_mib": round(torch.cuda.max_memory_reserved() / MIB),
        "allocated_mib": round(torch.cuda.max_memory_allocated() / MIB),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--vram-mib", type=int, default=46000)
    options = parser.parse_args()
    device = find_device()
    cap = device.cap(options.vram_mib)
    roof = matrix_rate()
    for name in options.models:
        shape = ModelShape.read(CONFIGS[name])
        config = AutoConfig.for_model(**CONFIGS[name])
        with device.torch:
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, attn_implementation=attention.register()
            ).eval()
        inject(model)
        add_adapter(model, "a", LoraConfig(), seed=0)
        activate(model, "a")
        for rows, length in POINTS[name]:
            torch.cuda.empty_cache()
            device.reset_peak()
            plan = plan_training(
                shape,
                rank=16,
                most_tokens=rows * length,
                dtype_bytes=2,
                cap_bytes=cap,
                decode_tokens=0,
                gpu=True,
            )
            line = {
                "bench": "memory",
                "system": "tenbin",
                "model": name,
                "work": f"{rows}x{length}",
                "dtype": "bf16",
                "planned_mib": round(plan.total_bytes / MIB),
                **measure(model, rows, length),
                "roof_tflops": round(roof),
                "gpu": device.name,
                "versions": {"torch": torch.__version__},
            }
            line["planned_over_peak"] = round(line["planned_mib"] / line["peak_mib"], 4)
            print(json.dumps(line), flush=True)
        del model


if __name__ == "__main__":
    main()
