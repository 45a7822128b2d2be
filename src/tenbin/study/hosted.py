"""HostedModel: a model of the study that answers through an API: planned in calls and money, then asked."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median, stdev
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tenbin.config import ModelConfig, resolve_path
from tenbin.config_hosted import HostedSection, hosted_source, parse_money
from tenbin.errors import ConfigError, Problem
from tenbin.evaluation import evaluate
from tenbin.generate.hosted import (
    CallPlan,
    HostedGenerator,
    Prices,
    Spending,
    open_hosted,
    plan_hosted,
    read_prices,
)
from tenbin.generate.hosted.request import Service
from tenbin.runs import Run, RunResult, RunSpec
from tenbin.study.asking_plan import AskingPlan, asking_hosted
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.tasks.words import package_version
from tenbin.types import Completion, EvalResult, GenerationConfig, HostedUse, JsonValue, Message

PACKAGES = ("tenbin", "openai", "numpy", "scipy", "fugashi")


@dataclass(frozen=True, slots=True)
class HostedPlan:
    """What one hosted model of the study will be asked, and what that may cost."""

    model: str
    calls: CallPlan

    def to_json(self) -> dict[str, JsonValue]:
        """For plan.json."""
        return {"model": self.model, "hosted": asdict(self.calls)}


@dataclass(frozen=True, slots=True)
class Purse:
    """The prices and the limit that all hosted models of a study share."""

    prices: Prices
    spending: Spending


def open_purse(prepared: Prepared) -> Purse:
    """Read the study's price file and its limit.

    Raises:
        ConfigError: the price file is not right.
    """
    budget = prepared.config.budget
    path: Path | None = None
    if budget.prices is not None:
        path = resolve_path(budget.prices, prepared.study_file)
    prices = read_prices(path)
    limit = parse_money(budget.max_cost) if budget.max_cost is not None else None
    return Purse(prices, Spending(limit, prices))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedModel:
    """One hosted model of the study, planned."""

    model: ModelConfig
    plan: HostedPlan
    specs: tuple[RunSpec, ...]
    generator: HostedGenerator | None
    """None where nothing is to be asked: a plan, or all is done."""
    prices: Prices

    def asking(
        self, prepared: Prepared, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> AskingPlan:
        """What other questions than the study's own would take of it; sends nothing."""
        return asking_hosted(self.model, prepared.folder.path, prompts, config, self.prices)

    def is_done(self, run: Run) -> bool:
        """Whether the run is finished; one with failed calls is not, where they can be made again."""
        return run.done and self.generator is None

    @property
    def token_counter(self) -> None:
        """Its tokenizer is not to be had."""
        return None

    def work(self, prepared: Prepared, runs: Sequence[Run], screen: Screen) -> Iterator[RunResult]:
        """Ask every question, as often as the study says; answers that are there are not asked for again."""
        assert self.generator is not None, "opened where a run is not done"
        for run in runs:
            yield _ask_all(prepared, run, self.generator, screen)


def plan_hosted_model(
    prepared: Prepared,
    purse: Purse,
    model: ModelConfig,
    *,
    offline: bool,
    opening: bool,
    screen: Screen,
) -> HostedModel:
    """Plan the calls of one hosted model.

    Args:
        opening: also look for its key and its library, so that a study stops now and not after hours.

    Raises:
        UserError: everything that keeps it from being asked.
    """
    if prepared.config.evaluation.answer_by != "text":
        asked = prepared.config.evaluation.answer_by
        found = f'{model.label} is hosted and gives no likelihoods, and evaluation.answer_by is "{asked}"'
        remedy = 'leave the hosted model out, or set evaluation.answer_by = "text"'
        raise ConfigError(Problem(where="evaluation.answer_by", found=found, remedy=remedy))
    spec = _spec(prepared, model)
    prompts = [prepared.task.prompt(e) for e in prepared.dataset(prepared.report_on).examples]
    folder = prepared.folder
    calls = plan_hosted(model, folder.path, prompts, prepared.task.generation, prices=purse.prices)
    generator = None
    if opening and _is_missing(folder.run(spec), offline, screen):
        generator = open_hosted(
            model,
            folder.path,
            prices=purse.prices,
            spending=purse.spending,
            offline=offline,
            say=screen.say,
        )
    return HostedModel(
        model=model,
        plan=HostedPlan(model.label, calls),
        specs=(spec,),
        generator=generator,
        prices=purse.prices,
    )


def _is_missing(run: Run, offline: bool, screen: Screen) -> bool:
    """Whether anything is to be asked: a run that is not done, or one in which calls failed."""
    if not run.done:
        return True
    use = run.result().hosted
    if use is None or not use.num_errors or offline:
        return False
    screen.say(f"{run.spec.label}: {use.num_errors} calls failed the last time and are made again")
    return True


def _spec(prepared: Prepared, model: ModelConfig) -> RunSpec:
    task, split = prepared.task, prepared.report_on
    hosted = model.hosted or HostedSection()
    service = Service(source=hosted_source(model.source), hosted=hosted)
    settings: dict[str, JsonValue] = {
        "template": task.template.text,
        "stop": list(task.generation.stop),
        "max_new_tokens": task.generation.max_new_tokens,
        "level": prepared.config.evaluation.level,
        "metrics": [metric.id for metric in task.metrics],
        "data": {split: prepared.dataset(split).fingerprint},
        "hosted": {**service.settings, "repeats": hosted.repeats},
    }
    return RunSpec(
        kind="eval",
        model=model.label,
        source=model.source,
        model_fingerprint=service.fingerprint,
        task=prepared.config.task,
        settings=settings,
    )


def _ask_all(prepared: Prepared, run: Run, generator: HostedGenerator, screen: Screen) -> RunResult:
    run.start(_environment())
    run.log("begun", repeats=generator.repeats)
    started, split = perf_counter(), prepared.report_on
    dataset = prepared.dataset(split)
    latencies: list[float] = []
    results: list[EvalResult] = []
    for number in range(generator.repeats):
        label = f"{run.spec.label}: {number + 1}" if generator.repeats > 1 else run.spec.label
        with screen.bar(label, len(dataset.examples), "answer") as bar:
            result = evaluate(
                prepared.task,
                dataset.examples,
                generator.repeat(number),
                split=split,
                dataset=dataset.fingerprint,
                level=prepared.config.evaluation.level,
                on_progress=lambda done, total: bar.update(done),
                on_completion=partial(_time, latencies),
            )
        run.write_rows(split if number == 0 else f"{split}-repeat-{number + 1:02d}", result.rows)
        results.append(result)
    use = _use(generator, results, latencies)
    seconds = perf_counter() - started
    run.log("evaluated", errors=results[0].num_errors, unparsed=results[0].num_unparsed, seconds=seconds)
    found = RunResult(
        spec=run.spec,
        results={split: replace(results[0], rows=())},
        # What earlier processes waited for is not known: then no time is better than a wrong one.
        evaluate_s=seconds if use.num_cached == 0 else 0.0,
        device=_host(run.spec.settings),
        dtype="",
        hosted=use,
    )
    run.finish(found)
    return found


def _time(latencies: list[float], place: int, completion: Completion) -> None:
    if completion.error is None:
        latencies.append(completion.latency_s)


def _use(generator: HostedGenerator, results: Sequence[EvalResult], latencies: list[float]) -> HostedUse:
    usage = generator.usage()
    estimates = [result.metrics[0].estimate for result in results]
    values = [estimate.value if estimate else None for estimate in estimates]
    known = [value for value in values if value is not None]
    return HostedUse(
        num_calls=usage.num_calls,
        num_cached=usage.num_cached,
        num_errors=usage.num_errors,
        num_filtered=usage.num_filtered,
        num_lost=usage.num_lost,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost.usd if usage.cost else None,
        cost_yen=usage.cost.yen if usage.cost else None,
        lost_usd=usage.lost_cost.usd if usage.lost_cost else None,
        cost_note=usage.cost_note,
        latency_median_s=median(latencies) if latencies else None,
        latency_p95_s=float(np.quantile(latencies, 0.95)) if latencies else None,
        repeats=len(results),
        repeat_values=values,
        repeat_sd=stdev(known) if len(known) == len(values) > 1 else None,
        num_changed=_num_changed(results),
    )


def _num_changed(results: Sequence[EvalResult]) -> int:
    """Questions whose scores, or whose lack of one, are not the same in all repeats."""
    first = [row.scores for row in results[0].rows]
    others = [[row.scores for row in result.rows] for result in results[1:]]
    return sum(any(other[place] != scores for other in others) for place, scores in enumerate(first))


def _host(settings: Mapping[str, Any]) -> str:
    """`api.openai.com`: where the answers come from."""
    return urlsplit(str(settings["hosted"]["address"])).netloc


def _environment() -> dict[str, JsonValue]:
    return {
        "versions": {package: package_version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
    }
