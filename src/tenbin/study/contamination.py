"""Contamination hints of a study's base models: whether they know its questions' choices in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from tenbin.config_contamination import ContaminationConfig
from tenbin.contamination import OrderHint, askable, order_hint
from tenbin.data.splits import draw
from tenbin.errors import DataError, Problem
from tenbin.report import write_report
from tenbin.report.contamination import FILE, read_hints
from tenbin.runs import Run, alone
from tenbin.study.extras import need_training
from tenbin.study.prepare import Prepared, prepare
from tenbin.study.screen import Screen, SilentScreen
from tenbin.types import Example, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class HintPlan:
    """The questions, the same for every model."""

    examples: tuple[Example, ...]
    num_skipped: int
    config: ContaminationConfig
    settings: Mapping[str, JsonValue]


def hint_file(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> tuple[OrderHint, ...]:
    """Look at the base models of a study, and write the report again; those that are done are not done again.

    Raises:
        UserError: everything that is wrong, before a model is loaded.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    plan = plan_hints(prepared)
    _base_runs(prepared)
    with alone(prepared.folder.path):
        hints = hint_study(prepared, plan, cache_dir=cache_dir, offline=offline, screen=screen)
        write_report(prepared.folder)
    return hints


def plan_hints(prepared: Prepared) -> HintPlan:
    """Choose the questions.

    Raises:
        DataError: no question has three choices in an order of their own.
    """
    config = prepared.config.contamination or ContaminationConfig()
    dataset = prepared.dataset(prepared.report_on)
    usable = askable(dataset.examples)
    if not usable:
        found = (
            f"no example of the {prepared.report_on} set has three or more different `choices` that do not"
        )
        found += " stand in the order of size"
        remedy = "use this with question banks that have choices; data.columns maps them"
        where = f"{prepared.study_file.name}: contamination"
        raise DataError(Problem(where=where, found=found, remedy=remedy))
    return HintPlan(
        examples=draw(usable, config.questions, seed=config.seed),
        num_skipped=len(dataset) - len(usable),
        config=config,
        settings={
            **config.model_dump(mode="json"),
            "split": prepared.report_on,
            "data": dataset.fingerprint,
            "chat": prepared.config.prompt.chat,
        },
    )


def hint_study(
    prepared: Prepared, plan: HintPlan, *, cache_dir: Path | None, offline: bool, screen: Screen
) -> tuple[OrderHint, ...]:
    """Look at every base model that runs on this machine, in a study folder that is locked already.

    Raises:
        DataError: no such model was evaluated as it is.
    """
    screen.stage("contamination")
    runs = _base_runs(prepared)
    settings, hints = read_hints(prepared.folder)
    if settings != plan.settings:
        hints = {}
    missing = [run for run in runs if run.path.name not in hints]
    if missing:
        need_training()
        cache = cache_dir or user_cache_path("tenbin")
        hints |= _look(prepared, plan, missing, cache_dir=cache, offline=offline, screen=screen)
    kept = {run.path.name: hints[run.path.name] for run in runs if run.path.name in hints}
    prepared.folder.write(
        FILE,
        {"settings": dict(plan.settings), "hints": {key: hint.to_json() for key, hint in kept.items()}},
    )
    return tuple(kept.values())


def _base_runs(prepared: Prepared) -> list[Run]:
    """Local models that were evaluated as they are.

    Raises:
        DataError: there is none.
    """
    done = [run for run in prepared.folder.runs() if run.done and run.spec.variety == "base"]
    runs = [run for run in done if "vllm" not in run.spec.settings]  # its server gives no likelihoods
    if not runs:
        found = "no base model was evaluated here: likelihoods are only to be had of local models"
        remedy = "run the study with evaluation.base_model = true"
        raise DataError(Problem(where=str(prepared.folder.path), found=found, remedy=remedy))
    return runs


def _look(
    prepared: Prepared,
    plan: HintPlan,
    runs: Sequence[Run],
    *,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> dict[str, OrderHint]:
    from tenbin.study.asking_local import open_local

    found: dict[str, OrderHint] = {}
    for model in prepared.config.model:
        mine = [run for run in runs if run.spec.model == model.label]
        if not mine:
            continue
        opened = open_local(prepared, model, mine, cache_dir=cache_dir, offline=offline, screen=screen)
        for run, generator in opened:
            total = len(plan.examples) * (plan.config.orders + 1)
            with screen.bar(f"{run.spec.label}: orders of choices", total, "list") as bar:
                found[run.path.name] = order_hint(
                    generator,
                    plan.examples,
                    num_orders=plan.config.orders,
                    seed=plan.config.seed,
                    level=prepared.config.evaluation.level,
                    num_skipped=plan.num_skipped,
                    on_progress=lambda done, total: bar.update(done),
                )
    return found
