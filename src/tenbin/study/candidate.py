"""Candidate: one loaded model of a study, and the runs made with it: as it is, and fine-tuned."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tenbin.config import StudyConfig
from tenbin.decoder.decoder import Decoder
from tenbin.device import Device
from tenbin.evaluation import evaluate
from tenbin.generate.local import LocalGenerator
from tenbin.models.adapters import read_adapter, write_adapter
from tenbin.models.encode import Encoder
from tenbin.models.loading import LoadedModel
from tenbin.models.lora import activate, add_adapter, inject, remove_adapter, trainable
from tenbin.runs import Run, RunResult
from tenbin.study.answer_log import AnswerLog
from tenbin.study.choosing import answering
from tenbin.study.planning import ModelPlan
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.tasks.base import Task
from tenbin.train.engine import Hooks, Progress, Training, best_epoch, train
from tenbin.train.job import StepStats, TrainJob
from tenbin.train.probe import probe
from tenbin.train.room import Room
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
    decoder: Decoder | None = None
    """For training; None: the model is only evaluated."""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The study's task."""
        return self.prepared.task

    def evaluate_base(self, run: Run) -> RunResult:
        """Evaluate the model without an adapter on the reporting split."""
        run.start(self.environment)
        split = self.prepared.report_on
        log = AnswerLog(
            run.path / "predictions" / f"{split}.partial.jsonl", self.plan.evaluation[split].examples
        )
        run.log("begun", answered=len(log.answered), examples=len(log.examples))
        result = self._evaluate(run, split, run.spec.label, name=split, log=log)
        run.log("evaluated", errors=result.num_errors, unparsed=result.num_unparsed, seconds=log.spent_s)
        log.forget()
        return self._finish(
            run,
            RunResult(
                spec=run.spec,
                results={split: without_rows(result)},
                evaluate_s=log.spent_s,
                **self._measured(),
            ),
        )

    def train(self, runs: Sequence[Run]) -> Iterator[RunResult]:
        """Fine-tune an adapter for each run, all at once, and evaluate the best epoch of each.

        Resumes where the runs stand.
        """
        model, decoder = self.loaded.model, self.decoder
        assert decoder is not None, "a candidate that is trained has a decoder"
        self.device.reset_peak()
        names = {run.path: f"{ADAPTER}-{number}" for number, run in enumerate(runs)}
        for run in runs:
            run.start(self.environment)
            assert run.spec.seed is not None, "a training run has a seed"
            modules = inject(model, self.config.lora.targets)
            add_adapter(model, names[run.path], self.config.lora, run.spec.seed, modules=modules)
        try:
            progress = self._train(decoder, runs, names)
        finally:
            decoder.use(())
            decoder.turn(keep=False)  # where the training did not come to its end
            for name in names.values():
                remove_adapter(model, name)
        for run, done in zip(runs, progress, strict=True):
            read_adapter(model, run.path / "adapter", ADAPTER)
            try:
                with activate(model, ADAPTER):
                    yield self._report(run, done)
            finally:
                remove_adapter(model, ADAPTER)

    def _train(self, decoder: Decoder, runs: Sequence[Run], names: Mapping[Path, str]) -> list[Progress]:
        examples = self.plan.train.encoded
        trainings = [
            Training(self._job(run, names[run.path]), run, self._hooks(run, names[run.path])) for run in runs
        ]
        total = trainings[0].job.num_steps(len(examples))
        label = runs[0].spec.label if len(runs) == 1 else f"{self.plan.model}: {len(runs)} runs at once"
        with self.screen.bar(f"{label}: training", total, "step") as bar:

            def on_step(stats: StepStats) -> None:
                bar.update(stats.step, f"loss {stats.loss:.3f}")

            trainings[0].hooks = replace(trainings[0].hooks, on_step=on_step)
            return train(decoder, trainings, examples, self._probed(decoder, trainings))

    def _job(self, run: Run, name: str) -> TrainJob:
        spec = run.spec
        assert spec.learning_rate is not None, "a training run has a learning rate"
        assert spec.seed is not None, "a training run has a seed"
        return TrainJob(
            name,
            trainable(self.loaded.model, name),
            self.config.training,
            rate=spec.learning_rate,
            seed=spec.seed,
            drops=self.config.lora.dropout > 0,
        )

    def _hooks(self, run: Run, name: str) -> Hooks:
        def validate(epoch: int) -> EvalResult | None:
            with activate(self.loaded.model, name):
                return self._validate(run, epoch)

        return Hooks(
            validate=validate,
            keep=lambda epoch: self._keep(run, name, epoch),
            on_step=lambda stats: None,
            on_shortage=self.say_shortage,
        )

    def say_shortage(self, said: str) -> None:
        """Tell what is done with less memory than planned."""
        self.screen.say(f"{self.plan.model}: out of memory; {said}. The result stays the same")

    def _probed(self, decoder: Decoder, trainings: Sequence[Training]) -> Room:
        """What the plan lets a micro-batch spend, corrected by a measured pass where there is a cap."""
        room = self._room()
        if room.levels is None:
            return room
        jobs, examples = [t.job for t in trainings], self.plan.train.encoded
        measured = probe(decoder, jobs, examples, room, self.plan.memory, self.device)
        if measured is not None:
            self.screen.say(f"{self.plan.model}: {measured.describe()}")
            for training in trainings:
                training.run.log("probe", **measured.to_json())
        return room

    def _room(self) -> Room:
        """What the plan lets a micro-batch spend."""
        return Room(
            self.plan.memory.most_tokens,
            levels=self.plan.memory.levels if self.device.kind == "cuda" else None,
            longest=max(len(e) for e in self.plan.train.encoded),
            share_prefixes=self.config.training.share_prefixes,
            replays=self.config.training.cuda_graphs,
            most_shared=self.loaded.shape.sliding_window,
        )

    def _validate(self, run: Run, epoch: int) -> EvalResult | None:
        if self.prepared.splits.validation is None:
            return None
        label = f"{run.spec.label}: validation {epoch}"
        return without_rows(self._evaluate(run, "validation", label, name=f"validation-epoch-{epoch:02d}"))

    def _keep(self, run: Run, name: str, epoch: int) -> None:
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
        write_adapter(self.loaded.model, name, run.path / "adapter", base_model=run.spec.source, info=info)

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
                # Where no epoch has a figure (a bank that only people grade) the last one is taken.
                selected_on=f"validation {self.task.metrics[0].id}" if _scored(chosen) else None,
                results={split: result},
                train_s=progress.train_s,
                evaluate_s=time.perf_counter() - started,
                train_tokens=progress.num_tokens,
                train_examples=progress.num_examples,
                probe=_last_probe(run),
                **self._measured(),
            ),
        )

    def _evaluate(
        self, run: Run, split: SplitName, label: str, *, name: str, log: AnswerLog | None = None
    ) -> EvalResult:
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
            decoder=self.decoder,
            cache_tokens=self.plan.cache_tokens,
        )
        answered = log.answered if log is not None else {}
        missing = [example for place, example in enumerate(examples) if place not in answered]
        with self.screen.bar(label, len(examples), "answer") as bar:
            result = evaluate(
                self.task,
                examples,
                answering(self.config, self.task, missing, generator),
                split=split,
                dataset=dataset.fingerprint,
                level=self.config.evaluation.level,
                on_progress=lambda done, total: bar.update(done),
                on_completion=log.add if log is not None else None,
                done=answered,
            )
        if generator.notes:
            run.log("memory", evaluation=name, retried_with=generator.notes)
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


def _last_probe(run: Run) -> dict[str, JsonValue] | None:
    """As it was logged when the training began, or was taken up again."""
    found = [event for event in run.events() if event["event"] == "probe"]
    return {k: v for k, v in found[-1].items() if k not in ("time", "event")} if found else None


def _scored(result: EvalResult | None) -> bool:
    """Whether an epoch could be chosen by this validation."""
    return result is not None and result.metrics[0].estimate is not None


def without_rows(result: EvalResult) -> EvalResult:
    """The result as it is kept beside the predictions, which hold the rows."""
    return replace(result, rows=())
