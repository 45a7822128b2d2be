"""Evaluated: one model, adapter or API on one file of examples, or on the set of a study; `tenbin eval`."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenbin.config import ModelConfig, StudyConfig, parse_study, put_all
from tenbin.errors import ConfigError, Problem
from tenbin.grading.scores import apply_grades
from tenbin.runs import Run, RunResult, alone, storage
from tenbin.study.extras import need_training
from tenbin.study.planned import Planned
from tenbin.study.prepare import Prepared, prepare, prepare_config, write_prepared
from tenbin.study.run import plan_study, run_model, write_plans
from tenbin.study.screen import Screen, SilentScreen

if TYPE_CHECKING:
    from tenbin.study.adapter import Given  # its module loads torch

WHERE = Path("eval")
"""Stands for the study file where there is none: paths are relative to the working folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation found."""

    folder: Path
    """Study folder: `tenbin report` takes it."""
    results: tuple[RunResult, ...]
    """Of the model; with an adapter and its base model of both, the base model first."""
    runs: tuple[Run, ...]
    """Their folders: predictions row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What both ways to evaluate share."""

    adapter: Path | None = None
    with_base: bool = False
    """Also the model without the adapter, asked in the same way."""
    overrides: Mapping[str, object] | None = None
    cache_dir: Path | None = None
    offline: bool = False
    screen: Screen = field(default_factory=SilentScreen)


ALONE = Options()


def evaluate_any(
    model: str,
    data: str | None,
    *,
    task: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    output: Path | None = None,
    options: Options = ALONE,
) -> Evaluated:
    """`evaluate_data`, or where `model` is a study file and there are no data, `evaluate_study`.

    Args:
        name: for tables; with a study file the model of the study.

    Raises:
        UserError: everything that is wrong.
    """
    if data is not None:
        return evaluate_data(
            model,
            data,
            task=task,
            name=name,
            columns=columns,
            limit=limit,
            output=output,
            options=options,
        )
    if not model.endswith(".toml"):
        remedy = "name a file of examples: tenbin eval MODEL DATA; or a study file: tenbin eval STUDY.toml"
        raise ConfigError(Problem(where="eval", found="there are no data to evaluate on", remedy=remedy))
    given = {"--task": task, "--column": columns or None, "--limit": limit, "--output": output}
    problems = [
        Problem(where=f"eval {key}", found="the study file says this", remedy="use --set KEY=VALUE")
        for key, value in given.items()
        if value is not None
    ]
    if problems:
        raise ConfigError(problems)
    return evaluate_study(Path(model), model=name, options=options)


def evaluate_data(
    source: str,
    data: str,
    *,
    task: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    output: Path | None = None,
    options: Options = ALONE,
) -> Evaluated:
    """Evaluate one model on one file. The same call goes on where it stopped, and does nothing that is done.

    Args:
        source: hub name, folder, .gguf file, hosted model, or an adapter folder that names its base model.
        data: any file that a study reads.
        task: not needed with an adapter of tenbin's: it says.
        name: for tables; from the source without it.
        columns: field of the task -> column of the file.
        limit: use only so many examples, drawn with a fixed seed: the same ones for every model.
        output: study folder; `runs/eval-<name of the file>` without it. Several models may share one.

    Raises:
        UserError: everything that is wrong, before anything is loaded where that can be known.
    """
    source, adapter = _base_of(source, options.adapter)
    given = _given(adapter, options.with_base)
    about: Mapping[str, Any] = given.adapter.info if given else {}
    raw: dict[str, Any] = {
        "name": f"eval-{_stem(data)}",
        "task": task or about.get("task"),
        "data": {"train": data, "test": data, "split": {"validation": 0.0, "test": 0.0}},
        "model": [{"source": source} | ({"name": name} if name else {})],
        "training": {"learning_rates": []},
    }
    raw["data"] |= {"columns": dict(columns)} if columns else {}
    raw["data"] |= {"limit": {"test": limit}} if limit is not None else {}
    raw |= {"output": str(output)} if output is not None else {}
    _need_task(raw["task"], task, about)
    asked = given.adapter.overrides() if given else {}
    config = parse_study(put_all(raw, {**asked, **(options.overrides or {})}), where="eval")
    prepared = prepare_config(config, WHERE)
    _need_same_questions(prepared)
    return _evaluate(prepared, _with_earlier_models(prepared), given, options)


def evaluate_study(study_file: Path, *, model: str | None = None, options: Options = ALONE) -> Evaluated:
    """Evaluate one model of a study as it is, or an adapter on it, in the study's folder.

    Args:
        model: its short name; not needed where the study has only one.

    Raises:
        UserError: everything that is wrong, before anything is loaded where that can be known.
    """
    whole = prepare(study_file, dict(options.overrides or {}))
    given = _given(options.adapter, options.with_base)
    chosen = _one_model(whole.config, model, study_file)
    if given is not None:
        _need_same_template(whole, given.adapter.info, given.adapter.folder)
    config = whole.config.model_copy(
        update={
            "model": [chosen],
            "training": whole.config.training.model_copy(update={"learning_rates": []}),
            "evaluation": whole.config.evaluation.model_copy(update={"base_model": True}),
        }
    )
    return _evaluate(replace(whole, config=config), whole, given, options)


def _evaluate(prepared: Prepared, record: Prepared, given: "Given | None", options: Options) -> Evaluated:
    """Evaluate the one model of `prepared`.

    Args:
        record: what study.toml and data.json are to say.
    """
    screen = options.screen
    screen.stage("plan")
    (planned,) = plan_study(
        prepared, cache_dir=options.cache_dir, offline=options.offline, screen=screen, given=given
    )
    folder = prepared.folder
    with storage(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    with alone(folder.path):
        write_prepared(record, screen)
        _write_plan(prepared, planned)
        if given is not None:
            given.record([folder.run(spec) for spec in planned.specs])
        screen.stage(planned.model.label)
        results = run_model(prepared, planned, screen)
        if prepared.config.task == "question_bank":
            apply_grades(folder)
    runs = tuple(folder.run(spec) for spec in planned.specs)
    order = {run.spec.id: place for place, run in enumerate(runs)}
    results.sort(key=lambda result: order[result.spec.id])
    return Evaluated(folder=folder.path, results=tuple(results), runs=runs)


def _write_plan(prepared: Prepared, planned: Planned) -> None:
    """The plan of a model that the study planned already says more: it stays."""
    old: Sequence[Mapping[str, Any]] = (prepared.folder.read("plan.json") or {}).get("models", [])
    if planned.plan.model not in {plan["model"] for plan in old}:
        write_plans(prepared, [planned])


def _given(folder: Path | None, with_base: bool) -> "Given | None":
    if folder is None:
        return None
    need_training()
    from tenbin.study.adapter import Given, read_adapter_folder

    return Given(adapter=read_adapter_folder(folder), with_base=with_base)


def _base_of(source: str, adapter: Path | None) -> tuple[str, Path | None]:
    """The base model and the adapter folder: an adapter named in the place of a model names its own base."""
    folder = Path(source).expanduser()
    if adapter is not None or not (folder / "adapter_config.json").exists():
        return source, adapter
    given = _given(folder, with_base=False)
    assert given is not None
    base = given.adapter.base_model
    if base is None:
        remedy = "name it: tenbin eval BASE_MODEL DATA --adapter FOLDER"
        raise ConfigError(
            Problem(where=source, found="the adapter does not say its base model", remedy=remedy)
        )
    return base, folder


def _stem(data: str) -> str:
    """`数学.jsonl.gz` -> `数学`."""
    name = data.replace("\\", "/").rstrip("/").split("/")[-1].split(".")[0]
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name)[:80] or "data"


def _need_task(found: str | None, asked: str | None, about: Mapping[str, Any]) -> None:
    trained = about.get("task")
    if found is None:
        remedy = "add --task: classification, reading, summarization or question_bank"
        raise ConfigError(Problem(where="eval", found="it is not said what the task is", remedy=remedy))
    if asked is not None and trained is not None and asked != trained:
        found = f"the adapter was trained for {trained}, not for {asked}"
        raise ConfigError(Problem(where="eval: task", found=found, remedy="leave --task out"))


def _one_model(config: StudyConfig, name: str | None, study_file: Path) -> ModelConfig:
    labels = [model.label for model in config.model]
    if name is None and len(labels) == 1:
        return config.model[0]
    if name not in labels:
        found = "the study has several models" if name is None else f"the study has no model {name!r}"
        remedy = f"name one of them: --model {' | '.join(labels)}"
        raise ConfigError(Problem(where=study_file.name, found=found, remedy=remedy))
    return config.model[labels.index(name)]


def _need_same_template(prepared: Prepared, about: Mapping[str, Any], folder: Path) -> None:
    """Within a study all are asked in the same way, or they would not compare."""
    own: dict[str, object] = {
        "task": prepared.task.name,
        "template": prepared.task.template.text,
        "chat": prepared.config.prompt.chat,
        "categories": sorted(prepared.task.categories),
    }
    about = {**about, "categories": sorted(about.get("categories") or []) or None}
    problems = [
        Problem(
            where=str(folder),
            field=key,
            found=f"the adapter was trained with {about[key]!r}, and the study has {value!r}",
            remedy="evaluate it apart from the study: tenbin eval BASE_MODEL DATA --adapter FOLDER",
        )
        for key, value in own.items()
        if about.get(key) is not None and about[key] != value
    ]
    if problems:
        raise ConfigError(problems)


def _need_same_questions(prepared: Prepared) -> None:
    """Refuse a folder that holds evaluations of other examples, or asked in another way.

    Raises:
        ConfigError: what differs.
    """
    old = prepared.folder.read("data.json")
    if old is None:
        return
    split = prepared.report_on
    pairs = {
        "task": (old.get("task"), prepared.task.name),
        "set of examples": (
            old.get("splits", {}).get(split, {}).get("fingerprint"),
            prepared.dataset(split).fingerprint,
        ),
        "template": (old.get("template_fingerprint"), prepared.task.template.fingerprint),
    }
    differing = [what for what, (before, now) in pairs.items() if before != now]
    if differing:
        raise ConfigError(
            Problem(
                where=str(prepared.folder.path),
                found=f"this folder holds evaluations with another {' and another '.join(differing)}",
                remedy="name another folder with --output: what is not asked alike does not compare",
            )
        )


def _with_earlier_models(prepared: Prepared) -> Prepared:
    """The record of the folder: its study.toml names the models that were evaluated before, too."""
    path = prepared.folder.path / "study.toml"
    if not path.exists():
        return prepared
    new = {model.label for model in prepared.config.model}
    try:
        old = StudyConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).model
    except ValueError:  # of another version: the record starts anew
        return prepared
    models = [*(model for model in old if model.label not in new), *prepared.config.model]
    return replace(prepared, config=prepared.config.model_copy(update={"model": models}))
