"""Candidate: one loaded model of a study, and the runs made with it: as it is, and fine-tuned."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tenbin.config import ModelConfig, StudyConfig
from tenbin.device import Device
from tenbin.evaluate import evaluate
from tenbin.generate.local import LocalGenerator
from tenbin.models.adapters import read_adapter, write_adapter
from tenbin.models.encode import Encoder
from tenbin.models.loading import LoadedModel
from tenbin.models.lora import activate, add_adapter, inject, remove_adapter, trainable
from tenbin.runs import Run, RunResult, RunSpec
from tenbin.study.planning import ModelPlan
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.tasks.base import Task
from tenbin.train.engine import Hooks, Progress, best_epoch, train
from tenbin.train.job import StepStats, TrainJob
from tenbin.types import EvalResult, JsonValue, SplitName

ADAPTER = "tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One loaded model with all that its runs need."""

    config: StudyConfig
    prepared: Prepared
    loaded: LoadedModel
    dtype: Literal["bf16", "fp32"]
    encoder: Encoder
    plan: ModelPlan
    device: Device
    screen: Screen
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The study's task."""
        return self.prepared.task

    def evaluate_base(self, run: Run) -> RunResult:
        """Evaluate the model without an adapter on the reporting split."""
        run.start(self.environment)
        started = time.perf_counter()
        split = self.prepared.report_on
        result = self._evaluate(run, split, run.spec.label, name=split)
        return self._finish(
            run,
            RunResult(
                spec=run.spec,
                results={split: without_rows(result)},
                evaluate_s=time.perf_counter() - started,
                **self._measured(),
            ),
        )

    def train(self, run: Run) -> RunResult:
        """Fine-tune one adapter, resuming where the run stands, and evaluate its best epoch."""
        spec = run.spec
        assert spec.learning_rate is not None, "a training run has a learning rate"
        assert spec.seed is not None, "a training run has a seed"
        run.start(self.environment)
        self.device.reset_peak()
        model = self.loaded.model
        names = inject(model, self.config.lora.targets)
        add_adapter(model, ADAPTER, self.config.lora, spec.seed, modules=names)
        try:
            with activate(model, ADAPTER):
                job = TrainJob(
                    ADAPTER,
                    trainable(model, ADAPTER),
                    self.config.training,
                    rate=spec.learning_rate,
                    seed=spec.seed,
                )
                progress = self._train(run, job)
            remove_adapter(model, ADAPTER)
            read_adapter(model, run.path / "adapter", ADAPTER)
            with activate(model, ADAPTER):
                return self._report(run, progress)
        finally:
            remove_adapter(model, ADAPTER)

    def _train(self, run: Run, job: TrainJob) -> Progress:
        total = job.num_steps(len(self.plan.train.encoded))
        with self.screen.bar(f"{run.spec.label}: training", total, "step") as bar:

            def on_step(stats: StepStats) -> None:
                bar.update(stats.step, f"loss {stats.loss:.3f}")

            return train(
                self.loaded.model,
                job,
                self.plan.train.encoded,
                run=run,
                most_tokens=self.plan.memory.most_tokens,
                hooks=Hooks(
                    validate=lambda epoch: self._validate(run, epoch),
                    keep=lambda epoch: self._keep(run, epoch),
                    on_step=on_step,
                ),
            )

    def _validate(self, run: Run, epoch: int) -> EvalResult | None:
        if self.prepared.splits.validation is None:
            return None
        label = f"{run.spec.label}: validation {epoch}"
        return without_rows(self._evaluate(run, "validation", label, name=f"validation-epoch-{epoch:02d}"))

    def _keep(self, run: Run, epoch: int) -> None:
        """Write the adapter with everything that is needed to put the same questions to it elsewhere."""
        info: dict[str, JsonValue] = {
            "task": self.task.name,
            "template": self.task.template.text,
            "chat": self.config.prompt.chat,
            "categories": list(self.task.categories),
            "max_new_tokens": self.task.generation.max_new_tokens,
            "stop": list(self.task.generation.stop),
            "epoch": epoch,
            "learning_rate": run.spec.learning_rate,
            "seed": run.spec.seed,
            "base_model_fingerprint": run.spec.model_fingerprint,
        }
        write_adapter(self.loaded.model, ADAPTER, run.path / "adapter", base_model=run.spec.source, info=info)

    def _report(self, run: Run, progress: Progress) -> RunResult:
        best = best_epoch(progress.epochs)
        started = time.perf_counter()
        split = self.prepared.report_on
        chosen = progress.epochs[best - 1].validation
        if split == "validation" and chosen is not None:
            result = chosen  # the same model and examples: it was evaluated after that epoch
        else:
            result = without_rows(self._evaluate(run, split, f"{run.spec.label}: {split}", name=split))
        return self._finish(
            run,
            RunResult(
                spec=run.spec,
                epochs=tuple(progress.epochs),
                best_epoch=best,
                selected_on=f"validation {self.task.metrics[0].id}" if chosen is not None else None,
                results={split: result},
                train_s=progress.train_s,
                evaluate_s=time.perf_counter() - started,
                train_tokens=progress.num_tokens,
                train_examples=progress.num_examples,
                **self._measured(),
            ),
        )

    def _evaluate(self, run: Run, split: SplitName, label: str, *, name: str) -> EvalResult:
        dataset = self.prepared.dataset(split)
        examples = self.plan.evaluation[split].examples
        generation = self.config.generation
        generator = LocalGenerator(
            self.loaded.model,
            self.encoder,
            model_id=run.spec.label,
            batch_size=generation.batch_size,
            batch_tokens=generation.batch_tokens,
            max_positions=self.plan.max_input_tokens + self.task.generation.max_new_tokens,
        )
        with self.screen.bar(label, len(examples), "answer") as bar:
            result = evaluate(
                self.task,
                examples,
                generator,
                split=split,
                dataset=dataset.fingerprint,
                level=self.config.evaluation.level,
                on_progress=lambda done, total: bar.update(done),
            )
        run.write_rows(name, result.rows)
        return result

    def _measured(self) -> dict[str, Any]:
        return {
            "peak_mib": round(self.device.peak_mib(), 1),
            "device": self.device.name,
            "dtype": self.dtype,
        }

    @staticmethod
    def _finish(run: Run, result: RunResult) -> RunResult:
        run.finish(result)
        return result


def without_rows(result: EvalResult) -> EvalResult:
    """The result as it is kept beside the predictions, which hold the rows."""
    return replace(result, rows=())


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
        mode="json", exclude={"learning_rates", "seeds", "micro_batch_tokens", "checkpoint_every_s"}
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
