"""The report as Markdown: the same words, tables and examples; charts are in the HTML."""

from tenbin.report.build import ReportData
from tenbin.report.differences import Direction
from tenbin.report.html import COMPLETION_LIMIT, PROMPT_LIMIT
from tenbin.report.part import Part
from tenbin.report.table import escape_markdown
from tenbin.report.text import scale_of, shorten, visible
from tenbin.report.words import Words
from tenbin.types import EvalRow


def to_markdown(report: ReportData) -> str:
    """The whole report; data and model output stand in fenced blocks, where nothing is markup."""
    say, advice = report.words, report.advice
    parts = [
        f"# {escape_markdown(report.title)}",
        report.written,
        f"## {say('page.recommendation')}",
        f"**{escape_markdown(advice.headline)}**",
        escape_markdown(say.joined(list(advice.sentences))),
        _bullets(advice.cautions),
        f"### {say('page.rule')}",
        "\n".join(f"{i}. {escape_markdown(rule)}" for i, rule in enumerate(advice.rule, start=1)),
        f"## {say('page.results')}",
        *(table.to_markdown() for table in report.paper),
        report.systems.to_markdown() if report.systems else "",
        *(table.to_markdown() for table in (*report.problems, *report.more)),
        *(text for part in report.parts for text in _part(part)),
        f"## {say('page.data')}",
        _bullets(report.data.notes),
        *(table.to_markdown() for table in report.data.tables),
        f"## {say('page.differences')}",
        *(_direction(direction, report.evidence.headline, say) for direction in report.directions),
        f"## {say('page.settings')}",
        *((f"### {say('table.template')}", fenced(report.template)) if report.template else ()),
        *((f"### {say('table.study_file')}", fenced(report.study_text)) if report.study_text else ()),
        *(table.to_markdown() for table in report.settings),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _part(part: Part) -> list[str]:
    tables = [table.to_markdown() for table in part.tables]
    return [f"## {escape_markdown(part.title)}", _bullets(part.notes), *tables]


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    shown, fence = visible(text), "```"
    while fence in shown:
        fence += "`"
    return f"{fence}text\n{shown}\n{fence}"


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _direction(part: Direction, metric: str, say: Words) -> str:
    key = "helped" if part.right_wrong else "better"
    lines = [f"### {escape_markdown(say(f'difference.{key}', a=part.loser.name, b=part.winner.name))}"]
    if not part.kept:
        return "\n\n".join([*lines, say("difference.no_rows")])
    if not part.count:
        return "\n\n".join([*lines, say("difference.none")])
    lines.append(say("difference.count", n=f"{part.count:,}", shown=len(part.shown)))
    for item in part.shown:
        lines += [f"#### {escape_markdown(item.first.id)}", f"{say('difference.prompt')}:"]
        lines += [_short(item.first.prompt, PROMPT_LIMIT, say), f"{say('difference.references')}:"]
        lines += [_short(reference, PROMPT_LIMIT, say) for reference in item.first.references]
        for system, row in ((part.loser, item.first), (part.winner, item.second)):
            lines += [_heading(system.name, row, metric, say), _short(row.completion, COMPLETION_LIMIT, say)]
    return "\n\n".join(lines)


def _heading(name: str, row: EvalRow, metric: str, say: Words) -> str:
    answer = say("difference.unparsed") if row.answer is None else shorten(row.answer, PROMPT_LIMIT).head
    score = scale_of(metric).text(row.scores[metric])
    text = f"{name}, {say('difference.score')} {score}, {say('difference.answer')}: {answer}"
    return escape_markdown(text)


def _short(text: str, limit: int, say: Words) -> str:
    short = shorten(text, limit)
    if not short.left_out:
        return fenced(text)
    return fenced(f"{short.head} … {say('page.more', n=f'{short.left_out:,}')} … {short.tail}")
