"""The main job: inspect -> plan -> fine-tune -> evaluate -> report, doing only what is not done yet."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from platformdirs import user_cache_path

from tenbin.config import ModelConfig
from tenbin.data.inspection import Inspection, inspect_splits
from tenbin.errors import ConfigError, Interrupted, Problem, StorageError, UserError
from tenbin.grading.scores import apply_grades
from tenbin.report import write_report
from tenbin.runs import RunResult, alone, storage
from tenbin.study.choosing import check_choices
from tenbin.study.contamination import hint_study, plan_hints
from tenbin.study.extras import need_training
from tenbin.study.judging import check_judges, judge_prepared
from tenbin.study.planned import Plan, Planned
from tenbin.study.prepare import Prepared, prepare, say_bad_rows, write_prepared
from tenbin.study.rag import ask_study, plan_rag
from tenbin.study.screen import Screen, SilentScreen

if TYPE_CHECKING:
    from tenbin.study.adapter import Given


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
    check_judges(prepared, offline=offline, screen=screen)
    rag = plan_rag(prepared) if prepared.config.rag is not None else None
    hints = plan_hints(prepared) if prepared.config.contamination is not None else None
    screen.stage("plan")
    planned = plan_study(prepared, cache_dir=cache_dir, offline=offline, screen=screen)
    with storage(prepared.folder.path):
        prepared.folder.path.mkdir(parents=True, exist_ok=True)
    with alone(prepared.folder.path):
        results = _run_planned(prepared, planned, screen)
        if rag is not None:
            ask_study(prepared, rag, cache_dir=cache_dir, offline=offline, screen=screen)
        if hints is not None:
            hint_study(prepared, hints, cache_dir=cache_dir, offline=offline, screen=screen)
        if prepared.config.task == "question_bank":
            apply_grades(prepared.folder)
        if prepared.config.judge:
            judge_prepared(prepared, cache_dir=cache_dir, offline=offline, screen=screen)
        screen.stage("report")
        report = write_report(prepared.folder)
    return StudyResult(folder=prepared.folder.path, results=tuple(results), report=report)


def _run_planned(prepared: Prepared, planned: Sequence[Planned], screen: Screen) -> list[RunResult]:
    write_prepared(prepared, screen)
    write_plans(prepared, planned)
    screen.stage("inspect")
    inspect_study(prepared, planned)
    results: list[RunResult] = []
    for candidate in planned:
        screen.stage(candidate.model.label)
        results += run_model(prepared, candidate, screen)
    return results


def plan_file(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> tuple[Plan, ...]:
    """What fits, for every model of a study; no weights are loaded, none of a hub model are fetched.

    Raises:
        UserError: everything that is wrong with the study, its data and its models.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    say_bad_rows(prepared, screen)
    planned = plan_study(prepared, cache_dir=cache_dir, offline=offline, screen=screen, weights=False)
    return tuple(p.plan for p in planned)


def plan_study(
    prepared: Prepared,
    *,
    cache_dir: Path | None,
    offline: bool,
    screen: Screen,
    weights: bool = True,
    given: "Given | None" = None,
) -> tuple[Planned, ...]:
    """Resolve and plan every model of the study; loads tokenizers and shapes, no weights.

    Args:
        weights: whether what is needed to work is got too: a hub model's weights, a hosted model's key.
        given: an adapter that is evaluated with the model.

    Raises:
        UserError: what is wrong with any of the models, of all of them at once.
    """
    config = prepared.config
    local = [model for model in config.model if model.is_own]
    if local and not config.training.learning_rates and not config.evaluation.base_model:
        found = "there is nothing to do: no learning rate, and base models are not evaluated"
        remedy = "name learning rates, or set evaluation.base_model = true"
        raise ConfigError(Problem(where="training.learning_rates", found=found, remedy=remedy))
    asked = [e for split, data in prepared.datasets().items() if split != "train" for e in data.examples]
    check_choices(config, prepared.task, asked)
    here: dict[str, Any] = {
        "cache_dir": cache_dir or user_cache_path("tenbin"),
        "offline": offline,
        "weights": weights,
        "screen": screen,
        "given": given,
    }
    planners = _planners(prepared, here)
    planned: list[Planned] = []
    errors: list[UserError] = []
    for model in config.model:
        try:
            planned.append(planners[_kind(model)](model))
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError(list(dict.fromkeys(p for error in errors for p in error.problems)))
    return tuple(planned)


def _kind(model: ModelConfig) -> Literal["own", "vllm", "hosted"]:
    return "hosted" if model.is_hosted else "vllm" if model.is_vllm else "own"


def _planners(prepared: Prepared, here: Mapping[str, Any]) -> dict[str, Callable[[ModelConfig], Planned]]:
    """Plans a model, by its kind; of the kinds that the study has.

    Args:
        here: what planning a model on this machine is told.
    """
    kinds = {_kind(model) for model in prepared.config.model}
    found: dict[str, Callable[[ModelConfig], Planned]] = {}
    if "own" in kinds:
        found["own"] = partial(_local_planner(prepared), **here)
    if "vllm" in kinds:
        found["vllm"] = partial(_vllm_planner(prepared), **here)
    if "hosted" in kinds:
        told = {"offline": here["offline"], "opening": here["weights"], "screen": here["screen"]}
        found["hosted"] = partial(_hosted_planner(prepared), **told)
    return found


def _local_planner(prepared: Prepared) -> Callable[..., Planned]:
    """Plans a local model; this machine is looked at once for all of them."""
    need_training()
    from tenbin.decoder.base_types import need_base_type
    from tenbin.study.local import look_at_machine, plan_local

    need_base_type(prepared.config.training.base_dtype)
    return partial(plan_local, prepared, look_at_machine(prepared))


def _vllm_planner(prepared: Prepared) -> Callable[..., Planned]:
    """Plans a model that vLLM serves: found, fingerprinted and counted as a local one is."""
    need_training()
    from tenbin.study.vllm import plan_vllm

    return partial(plan_vllm, prepared)


def _hosted_planner(prepared: Prepared) -> Callable[..., Planned]:
    """Plans a hosted model; all of them share one purse."""
    from tenbin.study.hosted import open_purse, plan_hosted_model

    return partial(plan_hosted_model, prepared, open_purse(prepared))


def write_plans(prepared: Prepared, planned: Sequence[Planned]) -> None:
    """Write plan.json; the plans of other models that have runs in the folder are kept."""
    old = (prepared.folder.read("plan.json") or {}).get("models", [])
    with_runs = {run.spec.model for run in prepared.folder.runs()}
    plans = {m["model"]: m for m in old if m["model"] in with_runs}
    plans |= {p.plan.model: p.plan.to_json() for p in planned}
    prepared.folder.write("plan.json", {"models": list(plans.values())})


def inspect_study(prepared: Prepared, planned: Sequence[Planned]) -> Inspection:
    """Inspect the data with every candidate's tokenizer and write inspection.json."""
    tokenizers = {p.model.label: p.token_counter for p in planned if p.token_counter is not None}
    inspection = inspect_splits(prepared.splits, prepared.config.task, tokenizers, prepared.rendered)
    prepared.folder.write("inspection.json", inspection.to_json())
    return inspection


def run_model(prepared: Prepared, planned: Planned, screen: Screen) -> list[RunResult]:
    """All runs of one model; the model is loaded only if one of them is not done."""
    runs = [prepared.folder.run(spec) for spec in planned.specs]
    missing = [run for run in runs if not planned.is_done(run)]
    results = [run.result() for run in runs if run not in missing]
    if results:
        screen.say(f"{len(results)} of {len(runs)} runs are done already")
    if not missing:
        return results
    work = planned.work(prepared, missing, screen)
    for run in missing:
        try:
            done = next(work)
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
