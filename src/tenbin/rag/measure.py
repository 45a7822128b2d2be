"""Measure: ask a model every question inside every text, and sum up by length and depth."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from tenbin.rag.contexts import Condition, Context, Impossible
from tenbin.rag.outcome import outcome
from tenbin.rag.result import Drop, Figure, RagResult, RagRow, context_key
from tenbin.stats import TestResult, Undefined, estimate, holm, sign_flip
from tenbin.tasks.base import Task
from tenbin.types import Completion, Estimate, Generator, JsonValue

SHARES = ("reference", "needed", "other", "nowhere", "says_absent", "unparsed")


def ask(
    task: Task,
    field: str,
    contexts: Sequence[Context],
    generator: Generator,
    *,
    absent_phrases: Sequence[str],
    done: Mapping[str, RagRow] | None = None,
    keep: Callable[[RagRow], None] = lambda row: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RagRow]:
    """Let a model answer every question in every text; equal prompts are asked once.

    Args:
        task: with the template to ask with.
        field: input of the task that holds the text.
        done: rows that are there already, by key; they are not asked again.
        keep: called with every new row as soon as it is there.
        on_progress: called with (done, total) contexts.

    Returns:
        one row a context, in their order.
    """
    rows: dict[str, RagRow] = dict(done or {})
    waiting: dict[str, list[Context]] = {}
    for context in contexts:
        if context_key(context) not in rows:
            inputs = {**context.example.inputs, field: context.text}
            waiting.setdefault(task.template.prompt(inputs), []).append(context)
    examples = [
        replace(group[0].example, inputs={**group[0].example.inputs, field: group[0].text})
        for group in waiting.values()
    ]
    asked = list(waiting.values())
    num_done = len(contexts) - sum(map(len, asked))
    prompts = [task.prompt(example) for example in examples]
    for index, completion in generator.generate(prompts, task.generation):
        for context in asked[index]:
            row = make_row(task, context, completion, absent_phrases)
            rows[row.key] = row
            keep(row)
            num_done += 1
        on_progress(num_done, len(contexts))
    return [rows[context_key(context)] for context in contexts]


def make_row(task: Task, context: Context, completion: Completion, absent_phrases: Sequence[str]) -> RagRow:
    """Score one completion. Without the needed passage there is nothing to score: only its outcome counts."""
    example = context.example
    answer = task.answer(completion.text, example) if completion.error is None else None
    said = task.parse(completion.text) if completion.error is None else None
    scored = completion.error is None and context.condition != "absent"
    return RagRow(
        id=example.id,
        condition=context.condition,
        length=context.length,
        depth=context.depth,
        found_depth=context.found_depth,
        num_chars=len(context.text),
        input_tokens=completion.input_tokens,
        completion=completion.text,
        answer=answer,
        outcome=outcome(said, context, absent_phrases, error=completion.error),
        score=task.metrics[0].score(answer, example) if scored else None,
        group=example.group or example.id,
        error=completion.error,
    )


def sum_up(
    task: Task,
    rows: Sequence[RagRow],
    impossible: Sequence[Impossible],
    *,
    system: str,
    level: float,
    settings: Mapping[str, JsonValue],
) -> RagResult:
    """Scores and shares of outcomes by length, and by length and depth, each with its interval."""
    metric = task.metrics[0]
    cells: dict[tuple[Condition, int, float | None], list[RagRow]] = {}
    for row in rows:
        cells.setdefault((row.condition, row.length, None), []).append(row)
        if row.depth is not None:
            cells.setdefault((row.condition, row.length, row.depth), []).append(row)
    figures = []
    for (condition, length, depth), members in sorted(cells.items(), key=lambda item: _order(item[0])):
        kinds = SHARES if depth is None else ()
        kinds = kinds if condition == "absent" else ("score", *kinds)
        figures += [_figure(kind, condition, length, depth, members, level) for kind in kinds]
    return RagResult(
        system=system,
        task=task.name,
        metric=metric.id,
        metric_name=metric.name,
        definition=metric.definition,
        level=level,
        settings=settings,
        num_questions=len({row.id for row in rows}),
        figures=tuple(figures),
        drops=_drops(rows),
        impossible=tuple(impossible),
        errors=dict(Counter(row.error for row in rows if row.error is not None)),
    )


def _order(cell: tuple[Condition, int, float | None]) -> tuple[str, int, float]:
    condition, length, depth = cell
    return condition, length, -1.0 if depth is None else depth


def _figure(
    kind: str,
    condition: Condition,
    length: int,
    depth: float | None,
    rows: Sequence[RagRow],
    level: float,
) -> Figure:
    answered = [row for row in rows if row.error is None]
    # Questions of a bank that only people or a judge can grade have no score: they are in no estimate of it.
    values = [(value, row.group) for row in answered if (value := _value(row, kind)) is not None]
    found = _estimate([value for value, _ in values], [group for _, group in values], level)
    if not answered:
        found = Undefined("no completion was got")
    depths = [row.found_depth for row in rows if row.found_depth is not None]
    return Figure(
        kind=kind,
        condition=condition,
        length=length,
        depth=depth,
        estimate=found if isinstance(found, Estimate) else None,
        reason=found.reason if isinstance(found, Undefined) else None,
        num_asked=len(rows),
        num_errors=len(rows) - len(answered),
        mean_chars=fmean(row.num_chars for row in rows),
        mean_depth=fmean(depths) if depths else None,
    )


def _value(row: RagRow, kind: str) -> float | None:
    return row.score if kind == "score" else float(row.outcome == kind)


def _estimate(values: Sequence[float], groups: Sequence[str], level: float) -> Estimate | Undefined:
    """Mean with its interval; one question at several depths is one group, not several questions."""
    if not values:
        return Undefined("no answer has a score")
    shared = len(set(groups)) < len(groups)
    return estimate(values, kind="mean", groups=groups if shared else None, level=level)


def _drops(rows: Sequence[RagRow]) -> tuple[Drop, ...]:
    alone = {row.id: row for row in rows if row.condition == "alone" and row.score is not None}
    found: dict[int, TestResult] = {}
    for length in sorted({row.length for row in rows if row.condition == "present"}):
        inside = _means(row for row in rows if row.condition == "present" and row.length == length)
        ids = [example_id for example_id in inside if example_id in alone]
        test = sign_flip(
            [inside[i] for i in ids],
            [alone[i].score or 0.0 for i in ids],
            groups=[alone[i].group for i in ids],
        )
        if isinstance(test, TestResult):
            found[length] = test
    adjusted = holm([test.p_value for test in found.values()])
    return tuple(
        Drop(
            length=length,
            difference=test.difference,
            p_value=test.p_value,
            p_adjusted=p_adjusted,
            n=test.n,
            method=test.method,
        )
        for (length, test), p_adjusted in zip(found.items(), adjusted, strict=True)
    )


def _means(rows: Iterable[RagRow]) -> dict[str, float]:
    """Example -> mean score over its depths."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.score is not None:
            scores.setdefault(row.id, []).append(row.score)
    return {example_id: fmean(values) for example_id, values in scores.items()}
