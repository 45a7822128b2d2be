"""The runs of one local model: as it is, then fine-tuned at every learning rate with every seed."""

from typing import Any

from tenbin.config import ModelConfig, StudyConfig
from tenbin.runs import RunSpec
from tenbin.study.planning import ModelPlan
from tenbin.study.prepare import Prepared
from tenbin.types import JsonValue


def run_specs(
    config: StudyConfig,
    prepared: Prepared,
    model: ModelConfig,
    *,
    fingerprint: str,
    plan: ModelPlan,
    dtype: str,
) -> list[RunSpec]:
    """The runs of one model: as it is, then every learning rate and seed."""
    training = config.training.model_dump(
        mode="json",
        exclude={
            "learning_rates",
            "seeds",
            "micro_batch_tokens",
            "cuda_graphs",
            "checkpoint_every_s",
            "share_prefixes",
            "at_once",
        },
    )
    shared: dict[str, Any] = {
        "template": prepared.task.template.text,
        "chat": config.prompt.chat,
        "stop": list(prepared.task.generation.stop),
        "max_new_tokens": prepared.task.generation.max_new_tokens,
        "max_input_tokens": plan.max_input_tokens,
        "dtype": dtype,
        "too_long": config.data.too_long,
        "level": config.evaluation.level,
        "metrics": [metric.id for metric in prepared.task.metrics],
    }
    if config.evaluation.answer_by != "text":
        shared["answer_by"] = config.evaluation.answer_by
    if config.training.base_dtype != "same":  # the model as it is is evaluated in it, too
        shared["base_dtype"] = config.training.base_dtype
    report: dict[str, JsonValue] = {str(prepared.report_on): prepared.dataset(prepared.report_on).fingerprint}
    common: dict[str, Any] = {
        "model": model.label,
        "source": model.source,
        "model_fingerprint": fingerprint,
        "task": config.task,
    }
    specs = []
    if config.evaluation.base_model:
        specs.append(RunSpec(kind="eval", settings={**shared, "data": report}, **common))
    data: dict[str, JsonValue] = {
        split: dataset.fingerprint for split, dataset in prepared.datasets().items()
    }
    for rate in config.training.learning_rates:
        for seed in config.training.seeds:
            settings = {
                **shared,
                "data": data,
                "training": {**training, "max_length": plan.max_length},
                "lora": config.lora.model_dump(mode="json"),
            }
            specs.append(RunSpec(kind="train", learning_rate=rate, seed=seed, settings=settings, **common))
    return specs
