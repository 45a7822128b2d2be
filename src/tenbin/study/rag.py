"""RAG fitness of a study's systems: builds the texts, asks every system, keeps answers and results."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_cache_path

from tenbin.config import resolve_path
from tenbin.config_rag import RagConfig
from tenbin.data.splits import draw
from tenbin.errors import ConfigError, DataError, Problem
from tenbin.rag.contexts import Context, Impossible, build_contexts
from tenbin.rag.measure import ask, sum_up
from tenbin.rag.passages import Passage, read_corpus, study_passages
from tenbin.rag.prompt import FIELDS, default_template
from tenbin.rag.result import RagResult
from tenbin.rag.store import RagFolder
from tenbin.report import write_report
from tenbin.report.evidence import read_evidence
from tenbin.report.words import Words
from tenbin.runs import Run, alone
from tenbin.study.asking import open_systems
from tenbin.study.prepare import Prepared, prepare
from tenbin.study.screen import Screen, SilentScreen
from tenbin.tasks.base import PromptTemplate, Task
from tenbin.tasks.registry import TASKS
from tenbin.types import Example, Generator, JsonValue, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class RagPlan:
    """The questions inside their texts, the same for every system."""

    task: Task
    field: str
    contexts: tuple[Context, ...]
    impossible: tuple[Impossible, ...]
    absent_phrases: tuple[str, ...]
    settings: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class RagDone:
    """What was found."""

    folder: Path
    results: tuple[RagResult, ...]
    report: Path


def rag_file(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    runs: Sequence[str] = (),
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> RagDone:
    """Ask the systems of a study inside long texts, and write the report again. Goes on where it stopped.

    Args:
        runs: ids of the runs to ask; without them the systems that the report weighs.

    Raises:
        UserError: everything that is wrong, before a model is loaded where that can be known.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    plan = plan_rag(prepared)
    chosen = _systems(prepared, runs)
    with alone(prepared.folder.path):
        results = ask_runs(prepared, plan, chosen, cache_dir=cache_dir, offline=offline, screen=screen)
        report = write_report(prepared.folder)
    return RagDone(folder=prepared.folder.path, results=results, report=report)


def ask_study(
    prepared: Prepared, plan: RagPlan, *, cache_dir: Path | None, offline: bool, screen: Screen
) -> tuple[RagResult, ...]:
    """Ask the systems that the report weighs, within a study folder that is locked already."""
    chosen = _systems(prepared, ())
    return ask_runs(prepared, plan, chosen, cache_dir=cache_dir, offline=offline, screen=screen)


def ask_runs(
    prepared: Prepared,
    plan: RagPlan,
    chosen: Sequence[Run],
    *,
    cache_dir: Path | None,
    offline: bool,
    screen: Screen,
) -> tuple[RagResult, ...]:
    """Ask the systems of these runs; a model is only loaded where a result is missing."""
    screen.stage("rag")
    folder = RagFolder(prepared.folder, plan.settings)
    folder.start()
    found: dict[str, RagResult] = {}
    for run in chosen:
        result = folder.result(run.path.name)
        # What does not fit a local model will not fit tomorrow; a call that failed may succeed.
        if result is not None and not (result.errors and run.spec.variety == "hosted"):
            found[run.path.name] = result
    if found:
        screen.say(f"{len(found)} of {len(chosen)} systems are done already")
    missing = [run for run in chosen if run.path.name not in found]
    cache = cache_dir or user_cache_path("tenbin")
    opened = open_systems(prepared, missing, cache_dir=cache, offline=offline, screen=screen)
    with closing(opened):
        for run, generator in opened:
            found[run.path.name] = _ask_one(prepared, plan, folder, run, generator, screen)
    return tuple(found[run.path.name] for run in chosen)


def plan_rag(prepared: Prepared) -> RagPlan:
    """Choose the questions and build their texts; the same settings and data give the same texts.

    Raises:
        ConfigError: the task has no text to ask about, or the template is not right.
        DataError: no question has a text and a reference, or no text could be built.
    """
    config = prepared.config.rag or RagConfig()
    where = prepared.study_file.name
    field = FIELDS.get(prepared.config.task)
    if field is None:
        found = f"the questions of {prepared.config.task} are not asked about a text"
        raise ConfigError(
            Problem(where=f"{where}: task", found=found, remedy=f"use one of {', '.join(FIELDS)}")
        )
    reported = prepared.dataset(prepared.report_on)
    usable = [e for e in reported if e.inputs.get(field, "").strip() and any(e.references)]
    if not usable:
        found = f"no example of the {prepared.report_on} set has a {field} and a reference"
        raise DataError(
            Problem(where=f"{where}: rag", found=found, remedy=f"map the {field} in data.columns")
        )
    task = _task(prepared, config, usable[0])
    examples = [_complete(e, task) for e in draw(usable, config.questions, seed=config.seed)]
    passages = _passages(prepared, config, field)
    contexts, impossible = build_contexts(
        examples,
        field,
        passages,
        lengths=sorted(config.lengths),
        depths=config.places,
        absent=config.without_answer,
        near=config.distractors == "near",
        seed=config.seed,
    )
    if not any(context.length for context in contexts):
        reasons = "; ".join(sorted({f"{i.length:,} characters: {i.reason}" for i in impossible})[:3])
        remedy = "choose other rag.lengths, or name a larger rag.corpus"
        raise DataError(
            Problem(where=f"{where}: rag", found=f"no text can be built: {reasons}", remedy=remedy)
        )
    return RagPlan(
        task=task,
        field=field,
        contexts=tuple(contexts),
        impossible=tuple(impossible),
        absent_phrases=(config.absent_answer, *config.absent_phrases),
        settings=_settings(prepared, config, task, passages),
    )


def rag_prompts(plan: RagPlan) -> list[list[Message]]:
    """What every system is asked: equal prompts once, as `ask` puts them."""
    inputs = [{**context.example.inputs, plan.field: context.text} for context in plan.contexts]
    texts = dict.fromkeys(plan.task.template.prompt(one) for one in inputs)
    return [[Message("user", text)] for text in texts]


def _task(prepared: Prepared, config: RagConfig, example: Example) -> Task:
    name = prepared.config.task
    entry = TASKS[name]
    if config.study_template:
        template = prepared.task.template
    elif config.template is not None:
        template = PromptTemplate(config.template)
        where = f"{prepared.study_file.name}: rag.template"
        template.check(tuple(f for f in template.fields if f in example.inputs or f in entry.optional), where)
    else:
        template = default_template(name, config.absent_answer)
    most = config.max_new_tokens or prepared.task.generation.max_new_tokens
    return entry.make(template, prepared.task.categories, most)


def _complete(example: Example, task: Task) -> Example:
    """Inputs that the template may use and the example does not have are empty."""
    return replace(example, inputs={**dict.fromkeys(task.template.fields, ""), **example.inputs})


def _passages(prepared: Prepared, config: RagConfig, field: str) -> tuple[Passage, ...]:
    if config.corpus is not None:
        return read_corpus(resolve_path(config.corpus, prepared.study_file), config.corpus_column)
    return study_passages((e for dataset in prepared.datasets().values() for e in dataset), field)


def _settings(
    prepared: Prepared, config: RagConfig, task: Task, passages: Sequence[Passage]
) -> dict[str, JsonValue]:
    shown = config.model_dump(mode="json", exclude={"template", "study_template"})
    return {
        **shown,
        "template": task.template.text,
        "chat": prepared.config.prompt.chat,
        "stop": list(task.generation.stop),
        "max_new_tokens": task.generation.max_new_tokens,
        "metric": task.metrics[0].id,
        "level": prepared.config.evaluation.level,
        "split": prepared.report_on,
        "data": prepared.dataset(prepared.report_on).fingerprint,
        "num_passages": len(passages),
        "num_corpus_characters": sum(len(passage.text) for passage in passages),
    }


def _systems(prepared: Prepared, runs: Sequence[str]) -> list[Run]:
    """The runs to ask: those named, else the ones that the report weighs."""
    there = {run.path.name: run for run in prepared.folder.runs() if run.done}
    unknown = [name for name in runs if name not in there]
    if unknown or not there:
        found = f"no finished run {unknown[0]!r}" if unknown else "no run is finished"
        remedy = f"there are: {', '.join(there)}" if there else "`tenbin run` makes them"
        raise DataError(Problem(where=str(prepared.folder.path), found=found, remedy=remedy))
    if runs:
        return [there[name] for name in runs]
    weighed = [
        system.key for system in read_evidence(prepared.folder, Words("en")).systems if system.finalist
    ]
    return [there[key] for key in weighed if key in there]


def _ask_one(
    prepared: Prepared, plan: RagPlan, folder: RagFolder, run: Run, generator: Generator, screen: Screen
) -> RagResult:
    name = run.path.name
    with screen.bar(f"{run.spec.label}: rag", len(plan.contexts), "text") as bar:
        rows = ask(
            plan.task,
            plan.field,
            plan.contexts,
            generator,
            absent_phrases=plan.absent_phrases,
            done=folder.rows(name),
            keep=lambda row: folder.keep(name, row),
            on_progress=lambda done, total: bar.update(done),
        )
    result = sum_up(
        plan.task,
        rows,
        plan.impossible,
        system=run.spec.label,
        level=prepared.config.evaluation.level,
        settings=plan.settings,
    )
    folder.finish(name, result)
    for error, number in result.errors.items():
        screen.say(f"{run.spec.label}: {number} texts were not answered: {error}")
    return result
