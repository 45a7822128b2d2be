"""A tiny training, whole: model, examples, job and a run folder."""

import torch
from tests.models.tiny import tiny_model

from tenbin.config import LoraConfig, TrainingConfig
from tenbin.models import attention
from tenbin.models.encode import Encoded
from tenbin.models.lora import activate, add_adapter, inject, trainable
from tenbin.runs import Run, RunSpec
from tenbin.train.engine import Hooks, train
from tenbin.train.job import TrainJob
from tenbin.types import Estimate, EvalResult, MetricSummary

SPEC = RunSpec(
    kind="train", model="tiny", source="tiny", model_fingerprint="0", task="t", learning_rate=1e-2, seed=0
)


def tiny_examples(count=13, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def ids(low, high):
        size = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, 97, (size,), generator=generator).tolist())

    return [Encoded(ids(3, 14), ids(1, 6)) for _ in range(count)]


def tiny_job(family="llama", dtype=torch.float32, dropout=0.0, seed=0, rate=1e-2, **training):
    model = tiny_model(family, dtype)
    model.set_attn_implementation(attention.register())
    inject(model)
    add_adapter(model, "a", LoraConfig(rank=4, alpha=8, dropout=dropout), seed=seed)
    activate(model, "a")
    config = TrainingConfig(**{"epochs": 3, "batch_size": 4, "checkpoint_every_s": 0.0, **training})
    return model, TrainJob("a", trainable(model, "a"), config, rate=rate, seed=seed)


def validation(value):
    """A result whose headline has this value; None = undefined."""
    estimate = None if value is None else Estimate(value, 0, 1, 0.95, 10, "made up")
    metric = MetricSummary(metric="m", name="m", definition="m", estimate=estimate, reason=None)
    return EvalResult(
        task="t",
        model_id="tiny",
        split="validation",
        dataset="d",
        template="t",
        metrics=(metric,),
        num_examples=10,
        num_errors=0,
        num_unparsed=0,
    )


def hooks(values=(0.1, 0.3, 0.2), kept=None, on_step=lambda stats: None):
    kept = [] if kept is None else kept
    return Hooks(validate=lambda epoch: validation(values[epoch - 1]), keep=kept.append, on_step=on_step)


def whole_training(folder, most_tokens=40, **kwargs):
    model, job = tiny_job(**kwargs)
    run = Run(folder, SPEC)
    run.start({})
    progress = train(model, job, tiny_examples(), run=run, most_tokens=most_tokens, hooks=hooks())
    return job, progress
