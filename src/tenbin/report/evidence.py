"""Evidence: what a study's folder holds, read into records; everything in the report is made from it."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tenbin.errors import DataError, Problem
from tenbin.evaluation_json import evaluation_from_json
from tenbin.grading.items import reported_rows
from tenbin.report.graded import with_points
from tenbin.report.incomplete import Incomplete, incomplete_runs, system_name
from tenbin.report.system import Kind as Kind
from tenbin.report.system import LeftOut as LeftOut
from tenbin.report.system import System as System
from tenbin.report.words import Words
from tenbin.runs import Run, RunResult, RunSpec, StudyFolder
from tenbin.types import EvalResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A study, read."""

    name: str
    task: str
    split: Literal["train", "validation", "test"]
    """The reporting set."""
    headline: str
    """Metric id."""
    level: float
    same_set: bool
    """The reporting set also chose the epoch and the learning rate."""
    systems: tuple[System, ...]
    incomplete: tuple[Incomplete, ...]
    left_out: tuple[LeftOut, ...]
    data: Mapping[str, Any]
    inspection: Any
    plan: Mapping[str, Mapping[str, Any]]
    """By short name of the model."""
    study_text: str

    @property
    def headline_name(self) -> str:
        """Name of the headline metric as in tables."""
        for system in self.systems:
            for summary in system.result.metrics:
                if summary.metric == self.headline:
                    return summary.name
        return self.headline

    def of_kind(self, *kinds: Kind) -> list[System]:
        """The systems of these kinds, in the order of the tables."""
        return [system for system in self.systems if system.kind in kinds]


def comparable(a: EvalResult, b: EvalResult) -> list[str]:
    """What keeps two results from being compared; [] where nothing does.

    Results compare only on the same examples, under the same template and by the same definitions of the
    metrics that both hold.
    """
    pairs = [
        ("task", a.task, b.task),
        ("set", a.split, b.split),
        ("fingerprint of the data", a.dataset, b.dataset),
        ("fingerprint of the template", a.template, b.template),
        ("number of examples", a.num_examples, b.num_examples),
    ]
    reasons = [f"{what}: {x} and {y}" for what, x, y in pairs if x != y]
    theirs = {summary.metric: summary.definition for summary in b.metrics}
    shared = [summary for summary in a.metrics if summary.metric in theirs]
    if not shared:
        reasons.append(f"metrics: {[m.metric for m in a.metrics]} and {list(theirs)}")
    reasons += [
        f"definition of {m.metric}: {m.definition!r} and {theirs[m.metric]!r}"
        for m in shared
        if m.definition != theirs[m.metric]
    ]
    return reasons


def read_evidence(study: StudyFolder, words: Words) -> Evidence:
    """Read everything the report shows; files that are not there are tolerated, no run is dropped.

    Args:
        study: the folder.
        words: the names of the baselines in the report's language.
    """
    data: dict[str, Any] = study.read("data.json") or {}
    settings, text = _study_file(study)
    runs = study.runs()
    done = [(run, run.result()) for run in runs if run.done]
    split = _reporting_split(result for _, result in done)
    systems, left_out = _systems(done, split, data)
    systems = with_points(study, systems, float(settings.get("evaluation", {}).get("level", 0.95)))
    headline = str(data.get("headline") or _first_metric(systems))
    systems = _with_finalists(systems, headline)
    baselines, odd = _baselines(data, split, systems, words)
    systems += baselines
    left_out += odd
    chosen_on = {s.run.selected_on for s in systems if s.run and s.run.selected_on}
    same_set = data.get("same_set")
    if same_set is None:
        same_set = any(str(text).split()[:1] == [split] for text in chosen_on)
    # Runs of one model that had no set of their own to compete on were chosen by the reported figure.
    tuned = [s for s in systems if s.kind == "tuned" and s.value(headline) is not None]
    same_set = bool(tuned) and (same_set or any(s.selection_score(headline) is None for s in tuned))
    return Evidence(
        name=str(settings.get("name") or study.path.name),
        task=str(data.get("task") or settings.get("task") or (runs[0].spec.task if runs else "")),
        split=split,
        headline=headline,
        level=float(settings.get("evaluation", {}).get("level", 0.95)),
        same_set=bool(same_set),
        systems=tuple(systems),
        incomplete=tuple(incomplete_runs(runs, settings)),
        left_out=tuple(left_out),
        data=data,
        inspection=study.read("inspection.json"),
        plan={str(m.get("model")): m for m in (study.read("plan.json") or {}).get("models", [])},
        study_text=text,
    )


def _study_file(study: StudyFolder) -> tuple[dict[str, Any], str]:
    path = study.path / "study.toml"
    if not path.exists():
        return {}, ""
    text = path.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        remedy = "run the study again: it writes this file anew"
        raise DataError(Problem(where=str(path), found=f"not TOML: {error}", remedy=remedy)) from None


def _reporting_split(results: Iterable[RunResult]) -> Literal["validation", "test"]:
    return "test" if any("test" in result.results for result in results) else "validation"


def _systems(
    done: list[tuple[Run, RunResult]], split: str, data: Mapping[str, Any]
) -> tuple[list[System], list[LeftOut]]:
    """Systems that compare with one another; the rest with reasons."""
    reference = _reference(done, split, data)
    variants = _variants([run for run, _ in done])
    systems, left_out = [], []
    for run, result in done:
        name = system_name(run.spec, variants[run.spec.id])
        evaluation = result.results.get(split)
        if evaluation is None:
            reasons = [f"set: it holds {', '.join(result.results) or 'nothing'}, not {split}"]
        else:
            reasons = comparable(evaluation, reference) if reference else []
        if reasons or evaluation is None:
            left_out.append(LeftOut(name=name, run_id=run.path.name, reasons=tuple(reasons)))
            continue
        systems.append(
            System(
                key=run.path.name,
                name=name,
                kind=run.spec.variety,
                result=evaluation,
                rows=reported_rows(run, result, split),
                run=result,
                environment=_environment(run),
                losses=_losses(run),
                variant=variants[run.spec.id],
            )
        )
    return sorted(systems, key=_table_order(data)), left_out


def _reference(done: list[tuple[Run, RunResult]], split: str, data: Mapping[str, Any]) -> EvalResult | None:
    """The result that the others must compare with: on the study's own data and under its own template as
    far as there is one, then of the largest group."""
    found = [result.results[split] for _, result in done if split in result.results]
    if not found:
        return None
    wanted = data.get("splits", {}).get(split, {}).get("fingerprint")
    pool = [evaluation for evaluation in found if evaluation.dataset == wanted] or found
    template = data.get("template_fingerprint")
    pool = [evaluation for evaluation in pool if evaluation.template == template] or pool
    keys = [(e.dataset, e.template, tuple(m.definition for m in e.metrics)) for e in pool]
    return pool[keys.index(Counter(keys).most_common(1)[0][0])]


def _table_order(data: Mapping[str, Any]) -> Any:  # noqa: ANN401  (a sort key)
    """Base model before its runs, learning rates from high to low, as in the paper."""

    def key(system: System) -> tuple[str, bool, str, str, float, int]:
        spec = system.run.spec if system.run else None
        assert spec is not None
        rate = spec.learning_rate or 0.0
        return (spec.model, spec.kind == "train", spec.addition, system.variant, -rate, spec.seed or 0)

    return key


def _variants(runs: list[Run]) -> dict[str, str]:
    """For every run the settings in which runs of the same model, learning rate and seed differ."""
    alike: dict[tuple[object, ...], list[RunSpec]] = {}
    for run in runs:
        spec = run.spec
        name = (spec.variety, spec.model, spec.addition, spec.learning_rate, spec.seed)
        alike.setdefault(name, []).append(spec)
    found: dict[str, str] = {}
    for specs in alike.values():
        flats = [
            # A hosted model's fingerprint is of its settings: they say it already.
            _flat(s.settings) | ({} if s.variety == "hosted" else {"model": s.model_fingerprint})
            for s in specs
        ]
        keys = sorted({key for flat in flats for key in flat if len({str(f.get(key)) for f in flats}) > 1})
        for spec, flat in zip(specs, flats, strict=True):
            found[spec.id] = ", ".join(f"{key}={flat.get(key)}" for key in keys)
    return found


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    found: dict[str, object] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _environment(run: Run) -> Mapping[str, Any] | None:
    found = StudyFolder(run.path).read("environment.json")
    return found if isinstance(found, Mapping) else None


def _losses(run: Run) -> tuple[tuple[int, float], ...]:
    """Loss of every step; a step done again after a crash counts with its last value."""
    losses = {
        int(event["step"]): float(event["loss"])
        for event in run.events()
        if event.get("event") == "step" and event.get("loss") is not None
    }
    return tuple(sorted(losses.items()))


def _first_metric(systems: list[System]) -> str:
    return systems[0].result.metrics[0].metric if systems and systems[0].result.metrics else ""


def _with_finalists(systems: list[System], headline: str) -> list[System]:
    """Mark what was not tuned here and, of every model, the run with the highest validation figure."""
    best: dict[str | None, tuple[float, str]] = {}
    for system in systems:
        if system.kind == "tuned":
            score = system.selection_score(headline)
            score = score if score is not None else system.value(headline)
            if score is not None and (system.model not in best or score > best[system.model][0]):
                best[system.model] = (score, system.key)
    chosen = {key for _, key in best.values()}
    return [replace(s, finalist=s.kind != "tuned" or s.key in chosen) for s in systems]


def _baselines(
    data: Mapping[str, Any], split: str, systems: list[System], words: Words
) -> tuple[list[System], list[LeftOut]]:
    found, left_out = [], []
    for item in (data.get("baselines") or {}).get(split, []):
        result = evaluation_from_json({"rows": [], **item["result"]})
        name = words.baseline(str(item["name"]))
        reasons = comparable(result, systems[0].result) if systems else []
        if reasons:
            left_out.append(LeftOut(name=name, run_id="", reasons=tuple(reasons)))
            continue
        found.append(
            System(
                key=f"baseline: {name}",
                name=name,
                kind="baseline",
                result=result,
                rows=result.rows,
                finalist=True,
            )
        )
    return found, left_out
