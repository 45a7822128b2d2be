"""Task x Generator x examples -> EvalResult: what each system says, scored, with intervals."""

from collections.abc import Callable, Mapping, Sequence

from tenbin.points import points_parts, with_points
from tenbin.stats import Undefined, bootstrap
from tenbin.stats import estimate as estimate_mean
from tenbin.tasks.base import Baseline, Metric, Scored, Task
from tenbin.tasks.metrics import resample_table
from tenbin.types import (
    Completion,
    Estimate,
    EvalResult,
    EvalRow,
    Example,
    Generator,
    MetricSummary,
    SplitName,
)

SEED = 0
"""Of the bootstrap: the same rows give the same interval."""


def evaluate(
    task: Task,
    examples: Sequence[Example],
    generator: Generator,
    *,
    split: SplitName,
    dataset: str,
    level: float = 0.95,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_completion: Callable[[int, Completion], None] | None = None,
    done: Mapping[int, Completion] | None = None,
) -> EvalResult:
    """Let a model answer every example, and score the answers.

    Args:
        dataset: fingerprint of the examples.
        on_progress: called with (done, total) after every completion.
        on_completion: called with (position of the example, completion) for every new one.
        done: completions that are there already, by the position of their examples: they are not made again.
    """
    done = done or {}
    missing = [place for place in range(len(examples)) if place not in done]
    prompts = [task.prompt(examples[place]) for place in missing]
    completions: list[Completion | None] = [done.get(place) for place in range(len(examples))]
    for count, (index, completion) in enumerate(generator.generate(prompts, task.generation), start=1):
        place = missing[index]
        assert completions[place] is None, f"prompt {index} was answered twice"
        completions[place] = completion
        if on_completion is not None:
            on_completion(place, completion)
        on_progress(len(done) + count, len(examples))
    answered = [c for c in completions if c is not None]
    assert len(answered) == len(examples), "the generator left prompts without a completion"
    return score(
        task, examples, answered, model_id=generator.model_id, split=split, dataset=dataset, level=level
    )


def evaluate_baseline(
    task: Task,
    baseline: Baseline,
    training: Sequence[Example],
    examples: Sequence[Example],
    *,
    split: SplitName,
    dataset: str,
    level: float = 0.95,
) -> EvalResult:
    """Score a system without a model: the majority category, the lead sentence."""
    completions = [
        Completion(
            text=baseline.answer(training, example), stop_reason="stop", input_tokens=0, output_tokens=0
        )
        for example in examples
    ]
    return score(
        task, examples, completions, model_id=baseline.name, split=split, dataset=dataset, level=level
    )


def score(
    task: Task,
    examples: Sequence[Example],
    completions: Sequence[Completion],
    *,
    model_id: str,
    split: SplitName,
    dataset: str,
    level: float = 0.95,
) -> EvalResult:
    """Score completions that are already there. An error is not an answer: it is left out and counted."""
    rows = tuple(_row(task, e, c) for e, c in zip(examples, completions, strict=True))
    scored = [(e, r) for e, r in zip(examples, rows, strict=True) if r.error is None]
    parts = points_parts(rows, level=level) if task.question else ()
    metrics = tuple(_summary(metric, scored, level) for metric in task.metrics)
    return EvalResult(
        task=task.name,
        model_id=model_id,
        split=split,
        dataset=dataset,
        template=task.template.fingerprint,
        metrics=with_points(metrics, parts),
        num_examples=len(rows),
        num_errors=len(rows) - len(scored),
        num_unparsed=sum(1 for _, row in scored if row.answer is None),
        rows=rows,
        points=parts,
    )


def _row(task: Task, example: Example, completion: Completion) -> EvalRow:
    answer = task.answer(completion.text, example) if completion.error is None else None
    return EvalRow(
        id=example.id,
        prompt=task.template.prompt(example.inputs),
        completion=completion.text,
        stop_reason=completion.stop_reason,
        answer=answer,
        references=example.references,
        scores={m.id: m.score(answer, example) if completion.error is None else None for m in task.metrics},
        input_tokens=completion.input_tokens,
        output_tokens=completion.output_tokens,
        group=example.group,
        error=completion.error,
        question=task.question(example) if task.question else {},
    )


def _summary(metric: Metric, scored: Sequence[tuple[Example, EvalRow]], level: float) -> MetricSummary:
    estimate = _estimate(metric, scored, level)
    return MetricSummary(
        metric=metric.id,
        name=metric.name,
        definition=metric.definition,
        estimate=estimate if isinstance(estimate, Estimate) else None,
        reason=estimate.reason if isinstance(estimate, Undefined) else None,
    )


def _estimate(
    metric: Metric, scored: Sequence[tuple[Example, EvalRow]], level: float
) -> Estimate | Undefined:
    """The metric over the rows that have a completion; clustered where they have groups."""
    scored = [(example, row) for example, row in scored if row.scores[metric.id] is not None]
    groups = _groups([example for example, _ in scored])
    values = [value for _, row in scored if (value := row.scores[metric.id]) is not None]
    if metric.interval != "bootstrap":
        return estimate_mean(values, kind=metric.interval, groups=groups, level=level)
    answers = [
        Scored(row.answer, example, value) for (example, row), value in zip(scored, values, strict=True)
    ]
    if not answers:
        return Undefined("no examples")
    table = resample_table(metric.id, answers)
    if table is not None:
        return bootstrap(
            table.codes, table.statistic, groups=groups, level=level, seed=SEED, bounds=table.bounds
        )
    value = metric.aggregate(answers)
    return (
        Undefined("undefined for these examples")
        if value is None
        else estimate_mean(values, kind="bootstrap", groups=groups, level=level, seed=SEED)
    )


def _groups(examples: Sequence[Example]) -> list[str] | None:
    """The examples' groups, where every one has one and some share it."""
    groups = [example.group for example in examples if example.group is not None]
    return groups if len(groups) == len(examples) and len(set(groups)) < len(groups) else None
