"""The table of an evaluation on a terminal: every metric with its interval, then counts, tokens and time."""

from collections.abc import Sequence

from rich.table import Table

from tenbin.report.hosted import money_text
from tenbin.report.text import scale_of, seconds_text
from tenbin.runs import Run, RunResult
from tenbin.types import EvalResult, HostedUse


def metrics_board(results: Sequence[RunResult]) -> Table:
    """Every metric of every result with its interval and n."""
    board = Table(title="Scores", title_justify="left")
    for column in ("system", "set", "metric"):
        board.add_column(column)
    for column in ("value", "interval", "n"):
        board.add_column(column, justify="right", no_wrap=True)
    for result in results:
        for split, evaluation in result.results.items():
            for summary in evaluation.metrics:
                scale, estimate = scale_of(summary.metric), summary.estimate
                name = summary.name + (" (%)" if scale.percent else "")
                if estimate is None:
                    figures = ("undefined", summary.reason or "", "")
                else:
                    interval = f"{scale.interval(estimate)} ({100 * estimate.level:g} %)"
                    figures = (scale.text(estimate.value), interval, f"{estimate.n:,}")
                board.add_row(result.spec.label, split, name, *figures)
    return board


def result_lines(result: RunResult, run: Run) -> list[str]:
    """What the table does not hold: errors and unparsed answers, tokens, time, calls and money."""
    lines = []
    for split, evaluation in result.results.items():
        lines.append(f"{result.spec.label}, {split}: {_counts(evaluation)}")
        if result.hosted is not None:
            continue
        rows = run.read_rows(split)
        prompt, answer = sum(r.input_tokens for r in rows), sum(r.output_tokens for r in rows)
        each = result.evaluate_s / max(1, evaluation.num_examples)
        lines.append(
            f"  {prompt:,} prompt tokens, {answer:,} answer tokens, {seconds_text(result.evaluate_s)}"
            f" ({each:.2g} s an example)"
        )
    if result.hosted is not None:
        lines += _hosted_lines(result.hosted)
    if result.peak_mib is not None:
        lines.append(f"  at most {result.peak_mib / 1024:.2f} GiB, {result.device}, {result.dtype}")
    if result.probe is not None:
        said = "  {before}: planned {predicted_mib:,} MiB, held {measured_mib:,}; {after}: {planned_mib:,}"
        lines.append(said.format(**result.probe))
    return lines


def _hosted_lines(use: HostedUse) -> list[str]:
    """Tokens, money, seconds and the spread of all repeats."""
    money = "cost not known"
    if use.cost_usd is not None and use.cost_yen is not None:
        money = f"cost {money_text(use.cost_usd, use.cost_yen)}"
    lines = [f"  {use.input_tokens:,} prompt tokens, {use.output_tokens:,} answer tokens, {money}"]
    lines.append(f"  {use.cost_note}")
    calls = f"  {counted(use.num_calls, 'call')} now, {counted(use.num_cached, 'answer')} of before"
    calls += f"; {use.num_filtered:,} kept back by the content filter" if use.num_filtered else ""
    lost = f", at most ${use.lost_usd:,.4f} on top" if use.lost_usd is not None else ""
    calls += f"; {counted(use.num_lost, 'call')} lost (may have been billed{lost})" if use.num_lost else ""
    lines.append(calls)
    if use.latency_median_s is not None and use.latency_p95_s is not None:
        lines.append(f"  {use.latency_median_s:.2f} s an answer (median), {use.latency_p95_s:.2f} s (95 %)")
    if use.repeats > 1:
        values = ", ".join("undefined" if value is None else f"{value:.4f}" for value in use.repeat_values)
        sd = "undefined" if use.repeat_sd is None else f"{use.repeat_sd:.4f}"
        lines.append(
            f"  asked {use.repeats} times: {values}; standard deviation {sd};"
            f" {counted(use.num_changed, 'example')} changed in score"
        )
    return lines


def counted(number: int, what: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _counts(evaluation: EvalResult) -> str:
    examples, errors = counted(evaluation.num_examples, "example"), counted(evaluation.num_errors, "error")
    return (
        f"{examples}: {errors} (no score),"
        f" {counted(evaluation.num_unparsed, 'unparsed answer')} (counted as wrong){_open(evaluation)}"
    )


def _open(evaluation: EvalResult) -> str:
    """Answers to a question bank that wait for people or a judge."""
    waiting = evaluation.points[0].num_ungraded if evaluation.points else 0
    return f", {counted(waiting, 'answer')} not graded yet (no score)" if waiting else ""
