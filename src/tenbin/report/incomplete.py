"""Incomplete: the runs of a study that have no result, from their folders and the study file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tenbin.config import ModelConfig
from tenbin.report.text import rate_text
from tenbin.runs import Run, RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """A run of the study without a result."""

    name: str
    model: str
    rate: float | None
    run_id: str | None
    """None of a run that has not begun."""
    state: Literal["failed", "stopped", "not begun"]
    detail: str
    """The last thing it logged, or why it failed."""


def system_name(spec: RunSpec, variant: str = "") -> str:
    """Name of a run in the report: the model, its learning rate as the paper writes it, what else differs."""
    parts = [spec.model]
    if spec.kind == "eval":
        parts.append(spec.addition)
    else:
        parts.append(f"lr={rate_text(spec.learning_rate)}" if spec.learning_rate is not None else "")
        parts.append(f"seed={spec.seed}" if spec.seed else "")
    parts.append(f"[{variant}]" if variant else "")
    return " ".join(part for part in parts if part)


def incomplete_runs(runs: list[Run], settings: Mapping[str, Any]) -> list[Incomplete]:
    """Runs that failed or stopped, then those that the study file asks for and nobody began."""
    found = []
    for run in runs:
        if not run.done:
            state, detail = _last_words(run)
            found.append(
                Incomplete(
                    name=system_name(run.spec),
                    model=run.spec.model,
                    rate=run.spec.learning_rate,
                    run_id=run.path.name,
                    state=state,
                    detail=detail,
                )
            )
    return found + _not_begun(runs, settings)


def _last_words(run: Run) -> tuple[Literal["failed", "stopped"], str]:
    events = run.events()
    for event in reversed(events):
        message = event.get("error") or event.get("message")
        if message and str(event.get("event")) in {"failed", "error"}:
            return "failed", str(message)
    if not events:
        return "stopped", ""
    last = events[-1]
    shown = ", ".join(f"{k} {last[k]}" for k in ("epoch", "step") if isinstance(last.get(k), int | float))
    return "stopped", f"{last.get('event')}{f' ({shown})' if shown else ''}"


def _not_begun(runs: list[Run], settings: Mapping[str, Any]) -> list[Incomplete]:
    """What the study file asks for that has no folder."""
    begun = {(run.spec.kind, run.spec.model, run.spec.learning_rate, run.spec.seed) for run in runs}
    training = settings.get("training", {})
    found = []
    for model in settings.get("model", []):
        checked = ModelConfig.model_validate(model)
        label = checked.label
        for rate in training.get("learning_rates", []) if checked.is_own else []:
            for seed in training.get("seeds", [0]):
                if ("train", label, float(rate), seed) not in begun:
                    found.append(_missing(label, float(rate), seed))
        as_it_is = not checked.is_own or settings.get("evaluation", {}).get("base_model", True)
        if as_it_is and not any(kind == "eval" and name == label for kind, name, _, _ in begun):
            found.append(replace(_missing(label, None, None), name=_as_it_is(checked)))
    return found


def _as_it_is(model: ModelConfig) -> str:
    kind = "hosted" if model.is_hosted else "base, vLLM" if model.is_vllm else "base"
    return f"{model.label} ({kind})"


def _missing(model: str, rate: float | None, seed: int | None) -> Incomplete:
    name = (
        f"{model} (base)"
        if rate is None
        else f"{model} lr={rate_text(rate)}" + (f" seed={seed}" if seed else "")
    )
    return Incomplete(name=name, model=model, rate=rate, run_id=None, state="not begun", detail="")
