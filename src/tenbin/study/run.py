"""The main job: inspect -> plan -> fine-tune -> evaluate -> report, doing only what is not done yet."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from platformdirs import user_cache_path

from tenbin.config import ModelConfig, resolve_path
from tenbin.data.inspection import Inspection, inspect_splits
from tenbin.device import Device, find_device
from tenbin.errors import ConfigError, Interrupted, Problem, StorageError, UserError
from tenbin.models import attention
from tenbin.models.encode import Encoder
from tenbin.models.loading import ModelSource, empty_model, load_model, resolve_source
from tenbin.models.lora import inject
from tenbin.models.tokenizer import load_tokenizer
from tenbin.report import write_report
from tenbin.runs import RunResult, RunSpec, alone, storage
from tenbin.study.candidate import Candidate, run_specs
from tenbin.study.planning import ModelPlan, plan_model
from tenbin.study.prepare import Prepared, prepare, say_bad_rows, write_prepared
from tenbin.study.screen import Screen, SilentScreen


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One model of the study, resolved and planned, its weights not loaded."""

    model: ModelConfig
    source: ModelSource
    encoder: Encoder
    plan: ModelPlan
    specs: tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What a study found: its runs and its report."""

    folder: Path
    results: tuple[RunResult, ...]
    report: Path


def run_study(
    study_file: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> StudyResult:
    """Do the whole study, resuming where it stopped and skipping what is done.

    Args:
        overrides: dotted key -> value, instead of what the file says.
        cache_dir: for converted models; the user's cache without it.
        offline: never touch the network.

    Raises:
        UserError: everything that is wrong, before anything is written or loaded where that can be known.
        Interrupted: after Ctrl-C; the same command goes on.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    device = find_device()
    screen.stage("plan")
    planned = plan_study(prepared, device, cache_dir=cache_dir, offline=offline, screen=screen)
    with storage(prepared.folder.path):
        prepared.folder.path.mkdir(parents=True, exist_ok=True)
    with alone(prepared.folder.path):
        return _run_planned(prepared, planned, device, screen)


def _run_planned(
    prepared: Prepared, planned: Sequence[Planned], device: Device, screen: Screen
) -> StudyResult:
    write_prepared(prepared, screen)
    write_plans(prepared, planned)
    screen.stage("inspect")
    inspect_study(prepared, planned)
    results: list[RunResult] = []
    for candidate in planned:
        screen.stage(candidate.model.label)
        results += run_model(prepared, candidate, device, screen)
    screen.stage("report")
    report = write_report(prepared.folder)
    return StudyResult(folder=prepared.folder.path, results=tuple(results), report=report)


def plan_file(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> tuple[ModelPlan, ...]:
    """What fits, for every model of a study; no weights are loaded, none of a hub model are fetched.

    Raises:
        UserError: everything that is wrong with the study, its data and its models.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    say_bad_rows(prepared, screen)
    planned = plan_study(
        prepared, find_device(), cache_dir=cache_dir, offline=offline, screen=screen, weights=False
    )
    return tuple(p.plan for p in planned)


def plan_study(
    prepared: Prepared,
    device: Device,
    *,
    cache_dir: Path | None,
    offline: bool,
    screen: Screen,
    weights: bool = True,
) -> tuple[Planned, ...]:
    """Resolve and plan every model of the study; loads tokenizers and shapes, no weights.

    Args:
        weights: whether a hub model's weights are fetched too.

    Raises:
        UserError: what is wrong with any of the models, of all of them at once.
    """
    if not prepared.config.training.learning_rates and not prepared.config.evaluation.base_model:
        found = "there is nothing to do: no learning rate, and base models are not evaluated"
        remedy = "name learning rates, or set evaluation.base_model = true"
        raise ConfigError(Problem(where="training.learning_rates", found=found, remedy=remedy))
    rate = device.matrix_rate(device.dtype(prepared.config.training.dtype))
    planned: list[Planned] = []
    errors: list[UserError] = []
    for model in prepared.config.model:
        try:
            planned.append(
                _plan_one(
                    prepared,
                    model,
                    device,
                    cache_dir=cache_dir or user_cache_path("tenbin"),
                    offline=offline,
                    weights=weights,
                    screen=screen,
                    matrix_rate=rate,
                )
            )
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError(list(dict.fromkeys(p for error in errors for p in error.problems)))
    return tuple(planned)


def _plan_one(
    prepared: Prepared,
    model: ModelConfig,
    device: Device,
    *,
    cache_dir: Path,
    offline: bool,
    weights: bool,
    screen: Screen,
    matrix_rate: float,
) -> Planned:
    config = prepared.config
    dtype = device.dtype(config.training.dtype)
    source = find_model(prepared, model, cache_dir=cache_dir, offline=offline, weights=weights, screen=screen)
    if config.training.learning_rates and config.lora.targets != "all-linear":
        inject(empty_model(source), config.lora.targets)  # refuses a target that matches nothing
    encoder = Encoder(load_tokenizer(source.tokenizer), chat=config.prompt.chat)
    plan = plan_model(
        config,
        model.label,
        source.shape,
        encoder,
        prepared.task,
        prepared.splits.train.examples,
        {split: d.examples for split, d in prepared.datasets().items() if split != "train"},
        cap_bytes=device.cap(config.budget.vram_mib),
        dtype_bytes=2 if dtype == "bf16" else 4,
        gpu=device.kind == "cuda",
        matrix_rate=matrix_rate,
    )
    specs = run_specs(config, prepared, model, fingerprint=source.fingerprint, plan=plan, dtype=dtype)
    return Planned(model=model, source=source, encoder=encoder, plan=plan, specs=tuple(specs))


def find_model(
    prepared: Prepared,
    model: ModelConfig,
    *,
    cache_dir: Path,
    offline: bool,
    weights: bool,
    screen: Screen,
) -> ModelSource:
    """One model of the study: a path of the study file where there is such a file or folder, else a hub name.

    Raises:
        ModelError: it is not to be had, or not usable.
    """

    def located(source: str) -> str:
        path = resolve_path(source, prepared.study_file)
        return str(path) if path.exists() else source

    return resolve_source(
        located(model.source),
        tokenizer=located(model.tokenizer) if model.tokenizer else None,
        cache_dir=cache_dir,
        offline=offline,
        weights=weights,
        progress=screen.say,
    )


def write_plans(prepared: Prepared, planned: Sequence[Planned]) -> None:
    """Write plan.json."""
    prepared.folder.write("plan.json", {"models": [p.plan.to_json() for p in planned]})


def inspect_study(prepared: Prepared, planned: Sequence[Planned]) -> Inspection:
    """Inspect the data with every candidate's tokenizer and write inspection.json."""
    tokenizers = {p.model.label: p.encoder.count for p in planned}
    inspection = inspect_splits(prepared.splits, prepared.config.task, tokenizers, prepared.rendered)
    prepared.folder.write("inspection.json", inspection.to_json())
    return inspection


def run_model(prepared: Prepared, planned: Planned, device: Device, screen: Screen) -> list[RunResult]:
    """All runs of one model; the model is loaded only if one of them is not done."""
    runs = [prepared.folder.run(spec) for spec in planned.specs]
    results = [run.result() for run in runs if run.done]
    missing = [run for run in runs if not run.done]
    if results:
        screen.say(f"{len(results)} of {len(runs)} runs are done already")
    if not missing:
        return results
    dtype = device.dtype(prepared.config.training.dtype)
    loaded = load_model(
        planned.source,
        dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
        device=device.torch,
        attention=attention.register(),
    )
    candidate = Candidate(
        config=prepared.config,
        prepared=prepared,
        loaded=loaded,
        dtype=dtype,
        encoder=planned.encoder,
        plan=planned.plan,
        device=device,
        screen=screen,
        environment=device.environment(),
    )
    for run in missing:
        try:
            done = candidate.evaluate_base(run) if run.spec.kind == "eval" else candidate.train(run)
        except Interrupted:
            raise
        except Exception as error:
            with suppress(StorageError):  # a full disk must not hide the error itself
                run.log("failed", error=f"{type(error).__name__}: {error}")
            raise
        results.append(done)
        screen.say(summary_line(done))
    return results


def summary_line(result: RunResult) -> str:
    """`gemma lr=2e-4: accuracy 0.917 (0.80 to 0.97, n = 36), epoch 2`."""
    parts = []
    for evaluation in result.results.values():
        metric = evaluation.metrics[0]
        if metric.estimate is None:
            parts.append(f"{metric.name} undefined: {metric.reason}")
        else:
            e = metric.estimate
            parts.append(f"{metric.name} {e.value:.3f} ({e.low:.3f} to {e.high:.3f}, n = {e.n})")
    epoch = f", epoch {result.best_epoch}" if result.best_epoch is not None else ""
    return f"{result.spec.label}: {'; '.join(parts)}{epoch}"
