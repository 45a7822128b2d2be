"""VllmModel: a model of the study that vLLM serves on this machine: planned, asked, also with an adapter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from tenbin.config import ModelConfig
from tenbin.config_vllm import VllmSection
from tenbin.data.inspection import TokenCounter
from tenbin.device import Device, find_device
from tenbin.errors import ConfigError, Problem
from tenbin.evaluation import evaluate
from tenbin.generate.hosted import CallPlan, served
from tenbin.generate.vllm import VllmGenerator, VllmServer, find_command
from tenbin.models.encode import Encoder
from tenbin.models.tokenizer import load_tokenizer
from tenbin.runs import Run, RunResult, RunSpec
from tenbin.study.adapter import Given, adapter_of, check_same_model
from tenbin.study.asking_plan import AskingPlan, asking_local
from tenbin.study.local import find_model
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.study.serving import Serving, memory_share
from tenbin.types import GenerationConfig, JsonValue, Message

LOG, ASKED_LOG = "vllm.log", "vllm-asked.log"
"""Of a run's own questions, and of those that its system was asked later."""


@dataclass(frozen=True, slots=True)
class VllmPlan:
    """What one model will be asked, and how much of the GPU its server may take."""

    model: str
    calls: CallPlan
    share: float | None
    weight_bytes: int

    def to_json(self) -> dict[str, JsonValue]:
        """For plan.json."""
        calls = self.calls
        asked: dict[str, JsonValue] = {
            "num_prompts": calls.num_prompts,
            "num_calls": calls.num_calls,
            "num_cached": calls.num_cached,
            "input_tokens": calls.input_tokens,
            "output_tokens": calls.output_tokens,
            "memory_share": self.share,
        }
        return {"model": self.model, "vllm": asked, "terms": {"weights": self.weight_bytes}}


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmModel:
    """One model, resolved and planned; its server does not run."""

    model: ModelConfig
    plan: VllmPlan
    specs: tuple[RunSpec, ...]
    serving: Serving
    encoder: Encoder

    @property
    def token_counter(self) -> TokenCounter:
        """Tokens of texts."""
        return self.encoder.count

    def asking(
        self, prepared: Prepared, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> AskingPlan:
        """What other questions than the study's own would take of it; starts nothing."""
        total = self.serving.device.total_bytes
        share = self.serving.share or 1.0
        return asking_local(
            [len(self.encoder.prompt(prompt)[0]) for prompt in prompts],
            config.max_new_tokens,
            self.serving.source.shape,
            weight_bytes=self.plan.weight_bytes,
            dtype_bytes=4 if self.serving.section.dtype == "float32" else 2,
            cap_bytes=None if total is None else int(share * total),
        )

    def is_done(self, run: Run) -> bool:
        """Whether the run is finished."""
        return run.done

    def work(self, prepared: Prepared, runs: Sequence[Run], screen: Screen) -> Iterator[RunResult]:
        """Start the server, where anything is to be asked, and do these runs."""
        with self.serving.server(runs[0].path / LOG, screen.say) as server:
            for run in runs:
                (given,) = self.serving.adapters if run.spec.variety == "adapter" else (None,)
                generator = self.serving.generator(
                    prepared.folder.path, server, screen.say, model_id=run.spec.label, adapter=given
                )
                yield self._ask(prepared, run, generator, screen)

    def _ask(self, prepared: Prepared, run: Run, generator: VllmGenerator, screen: Screen) -> RunResult:
        task, split, server = prepared.task, prepared.report_on, generator.server
        dataset = prepared.dataset(split)
        prompts = [task.prompt(example) for example in dataset.examples]
        calls = generator.plan(prompts, task.generation)
        if calls.num_calls:
            server.reach()  # the time to start is not the model's
        run.start(_environment(self.serving.device, server))
        run.log("begun", answers_of_before=calls.num_cached)
        started = perf_counter()
        with screen.bar(run.spec.label, len(prompts), "answer") as bar:
            result = evaluate(
                task,
                dataset.examples,
                generator,
                split=split,
                dataset=dataset.fingerprint,
                level=prepared.config.evaluation.level,
                on_progress=lambda done, total: bar.update(done),
            )
        seconds = perf_counter() - started
        run.write_rows(split, result.rows)
        run.log("evaluated", errors=result.num_errors, unparsed=result.num_unparsed, seconds=seconds)
        found = RunResult(
            spec=run.spec,
            results={split: replace(result, rows=())},
            # What earlier processes waited for is not known: then no time is better than a wrong one.
            evaluate_s=seconds if not calls.num_cached else 0.0,
            device=self.serving.device.name,
            dtype=self.serving.section.dtype,
        )
        run.finish(found)
        return found


def plan_vllm(
    prepared: Prepared,
    model: ModelConfig,
    *,
    cache_dir: Path,
    offline: bool,
    weights: bool,
    screen: Screen,
    given: Given | None = None,
) -> VllmModel:
    """Resolve and plan one model; starts nothing.

    Args:
        weights: whether what is needed to work is got too: a hub model's weights, and the executable.

    Raises:
        UserError: everything that keeps it from being served and asked.
    """
    config = prepared.config
    if config.evaluation.answer_by != "text":
        asked = config.evaluation.answer_by
        found = f'vLLM serves {model.label} and gives no likelihoods, and evaluation.answer_by is "{asked}"'
        remedy = 'name the model without "vllm:", or set evaluation.answer_by = "text"'
        raise ConfigError(Problem(where="evaluation.answer_by", found=found, remedy=remedy))
    if weights:
        command = (model.vllm or VllmSection()).command
        find_command(command, f"model {model.label}", prepared.study_file.parent)
    serving = find_serving(
        prepared, model, cache_dir=cache_dir, offline=offline, weights=weights, screen=screen
    )
    specs = [_spec(prepared, model, serving)]
    if given is not None:
        given.adapter.check(serving.source)
        serving = replace(serving, adapters=(given.adapter,))
        specs = given.specs(specs)
    encoder = Encoder(load_tokenizer(serving.source.tokenizer), chat=config.prompt.chat)
    return VllmModel(
        model=model,
        plan=_plan(prepared, serving, encoder),
        specs=tuple(specs),
        serving=serving,
        encoder=encoder,
    )


def _plan(prepared: Prepared, serving: Serving, encoder: Encoder) -> VllmPlan:
    def silent(text: str) -> None:
        """Nothing is sent, so nothing is said."""

    prompts = [prepared.task.prompt(e) for e in prepared.dataset(prepared.report_on).examples]
    adapter = serving.adapters[0] if serving.adapters else None
    asked = served(serving.label, prepared.folder.path, serving.service(adapter), serving.label, silent)
    calls = asked.plan(prompts, prepared.task.generation)
    counted = replace(calls, input_tokens=sum(len(encoder.prompt(prompt)[0]) for prompt in prompts))
    return VllmPlan(serving.label, counted, serving.share, serving.weight_bytes)


def find_serving(
    prepared: Prepared, model: ModelConfig, *, cache_dir: Path, offline: bool, weights: bool, screen: Screen
) -> Serving:
    """What is served of one model of the study.

    Raises:
        ModelError: the model is not to be had, or not usable.
    """
    source = find_model(prepared, model, cache_dir=cache_dir, offline=offline, weights=weights, screen=screen)
    section, device = model.vllm or VllmSection(), find_device()
    return Serving(
        label=model.label,
        source=source,
        section=section,
        base=prepared.study_file.parent,
        chat=prepared.config.prompt.chat,
        device=device,
        share=memory_share(section, device, prepared.config.budget.vram_mib),
        offline=offline,
    )


def open_vllm(
    prepared: Prepared,
    model: ModelConfig,
    runs: Sequence[Run],
    *,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> Iterator[tuple[Run, VllmGenerator]]:
    """Yield (run, generator) of runs that are done; one server serves all of them.

    Raises:
        ModelError: the model is not to be had or has changed since the run, or an adapter is gone.
    """
    serving = find_serving(prepared, model, cache_dir=cache_dir, offline=offline, weights=True, screen=screen)
    check_same_model(runs, model.label, serving.source.fingerprint)
    adapters = {run.path.name: adapter_of(run) for run in runs if run.spec.variety == "adapter"}
    serving = replace(serving, adapters=tuple({a.fingerprint: a for a in adapters.values()}.values()))
    with serving.server(runs[0].path / ASKED_LOG, screen.say) as server:
        for run in runs:
            yield (
                run,
                serving.generator(
                    prepared.folder.path,
                    server,
                    screen.say,
                    model_id=run.spec.label,
                    adapter=adapters.get(run.path.name),
                ),
            )


def _spec(prepared: Prepared, model: ModelConfig, serving: Serving) -> RunSpec:
    task, split = prepared.task, prepared.report_on
    settings: dict[str, JsonValue] = {
        "template": task.template.text,
        "chat": prepared.config.prompt.chat,
        "stop": list(task.generation.stop),
        "max_new_tokens": task.generation.max_new_tokens,
        "level": prepared.config.evaluation.level,
        "metrics": [metric.id for metric in task.metrics],
        "data": {split: prepared.dataset(split).fingerprint},
        "vllm": serving.settings,
    }
    return RunSpec(
        kind="eval",
        model=model.label,
        source=model.source,
        model_fingerprint=serving.source.fingerprint,
        task=prepared.config.task,
        settings=settings,
    )


def _environment(device: Device, server: VllmServer) -> dict[str, Any]:
    """Of a run: this machine, and the server's version where it says it."""
    found = device.environment()
    versions = found["versions"]
    assert isinstance(versions, dict)
    return {**found, "versions": {**versions, "vllm": server.version}}
