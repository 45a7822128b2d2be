"""Reports as one self-contained HTML file: no script, nothing loaded, every text escaped."""

from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tenbin.data.inspection import Inspection
from tenbin.report.build import ReportData
from tenbin.report.charts import Chart
from tenbin.report.datapart import inspection_part
from tenbin.report.text import scale_of, shorten, visible
from tenbin.report.words import Language, Words

PROMPT_LIMIT = 240
COMPLETION_LIMIT = 600


def to_html(report: ReportData) -> str:
    """Render templates/report.html."""
    return _render(
        "report.html",
        say=report.words,
        title=report.title,
        written=report.written,
        report=report,
        score=scale_of(report.evidence.headline).text,
        prompt_limit=PROMPT_LIMIT,
        completion_limit=COMPLETION_LIMIT,
    )


def inspection_html(
    inspection: Inspection, name: str, *, language: Language = "en", now: datetime | None = None
) -> str:
    """What `tenbin inspect` found, as one file of the same kind.

    Args:
        name: of the study.
        now: the date to print, for tests; the clock's without it.
    """
    say = Words(language)
    date = (now or datetime.now()).strftime("%Y-%m-%d %H:%M")
    return _render(
        "inspection.html",
        say=say,
        title=say("page.inspection_title", name=name),
        written=say("page.written", date=date),
        part=inspection_part(inspection, say),
    )


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("tenbin", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["shorten"] = shorten
    return environment.get_template(template).render(svg=_svg, **values)


def _svg(chart: Chart) -> Markup:
    """The only markup that is not escaped: `svg.clean` has made it of known elements."""
    return Markup(chart.svg)
