"""The report's tables of hosted models: answers, tokens, money and seconds, and the spread over repeats."""

from tenbin.report.evidence import Evidence, System
from tenbin.report.recommendation import dollars_per_example
from tenbin.report.table import Cell, Table
from tenbin.report.text import MISSING, scale_of
from tenbin.report.words import Words
from tenbin.types import HostedUse

HOSTED_COLUMNS = (
    *("system", "answers", "prompt_tokens", "answer_tokens", "cost", "cost_thousand"),
    *("latency", "errors", "filtered", "lost"),
)
REPEATS_COLUMNS = ("system", "num_repeats", "value", "lowest_highest", "sd", "changed")


def hosted_tables(evidence: Evidence, say: Words) -> tuple[Table, ...]:
    """What hosted models took, and how much their scores change from time to time; () without any."""
    used = [(s, s.run.hosted) for s in evidence.systems if s.run and s.run.hosted]
    tables = [_took(used, say)] if used else []
    repeated = [(system, use) for system, use in used if use.repeats > 1]
    return (*tables, _repeats(repeated, evidence.headline, say)) if repeated else tuple(tables)


def thousand_text(system: System) -> str | None:
    """What 1,000 answers cost, in dollars and yen; None where no price is known."""
    dollars, use = dollars_per_example(system), system.run.hosted if system.run else None
    if dollars is None or use is None:
        return None
    yen = use.cost_yen / use.cost_usd if use.cost_usd and use.cost_yen is not None else 0.0
    return money_text(1000 * dollars, 1000 * dollars * yen)


def money_text(usd: float, yen: float) -> str:
    """`$0.0123 (1.8 yen)`; more digits of dollars where there are few."""
    digits = 2 if usd >= 100 else 4
    return f"${usd:,.{digits}f} ({yen:,.1f} yen)"


def _took(used: list[tuple[System, HostedUse]], say: Words) -> Table:
    notes = list(dict.fromkeys(use.cost_note for _, use in used))
    lost = sum(use.lost_usd or 0.0 for _, use in used)
    if any(use.num_lost for _, use in used):
        notes.append(say("table.lost_note", cost=f"${lost:,.4f}"))
    return Table(
        id="hosted",
        title=say("table.hosted"),
        columns=tuple(say(f"table.{column}") for column in HOSTED_COLUMNS),
        rows=tuple(_took_row(system, use) for system, use in used),
        notes=tuple(notes),
    )


def _took_row(system: System, use: HostedUse) -> tuple[Cell, ...]:
    num_answers = system.result.num_examples * use.repeats
    cost = MISSING if use.cost_usd is None else money_text(use.cost_usd, use.cost_yen or 0.0)
    seconds = MISSING
    if use.latency_median_s is not None and use.latency_p95_s is not None:
        seconds = f"{use.latency_median_s:.2f} ({use.latency_p95_s:.2f})"
    return (
        Cell(system.name),
        Cell(f"{num_answers:,}", num_answers),
        Cell(f"{use.input_tokens:,}", use.input_tokens),
        Cell(f"{use.output_tokens:,}", use.output_tokens),
        Cell(cost, use.cost_usd),
        Cell(thousand_text(system) or MISSING, dollars_per_example(system)),
        Cell(seconds, use.latency_median_s),
        Cell(f"{use.num_errors:,}", use.num_errors),
        Cell(f"{use.num_filtered:,}", use.num_filtered),
        Cell(f"{use.num_lost:,}", use.num_lost),
    )


def _repeats(repeated: list[tuple[System, HostedUse]], headline: str, say: Words) -> Table:
    scale = scale_of(headline)
    rows = []
    for system, use in repeated:
        known = [value for value in use.repeat_values if value is not None]
        between = f"{scale.text(min(known))} – {scale.text(max(known))}" if known else MISSING
        rows.append(
            (
                Cell(system.name),
                Cell(str(use.repeats), use.repeats),
                Cell(scale.text(system.value(headline))),
                Cell(between),
                Cell(scale.text(use.repeat_sd)),
                Cell(f"{use.num_changed:,} / {system.result.num_examples:,}", use.num_changed),
            )
        )
    return Table(
        id="repeats",
        title=say("table.repeats"),
        columns=tuple(say(f"table.{column}") for column in REPEATS_COLUMNS),
        rows=tuple(rows),
        notes=(say("table.repeats_note"),),
    )
