"""The report as one self-contained HTML file: no script, nothing loaded, every text escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tenbin.report.build import ReportData
from tenbin.report.charts import Chart
from tenbin.report.text import scale_of, shorten, visible

PROMPT_LIMIT = 240
COMPLETION_LIMIT = 600


def to_html(report: ReportData) -> str:
    """Render templates/report.html."""
    environment = Environment(
        loader=PackageLoader("tenbin", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["shorten"] = shorten
    scale = scale_of(report.evidence.headline)
    return environment.get_template("report.html").render(
        report=report,
        say=report.words,
        score=scale.text,
        svg=_svg,
        prompt_limit=PROMPT_LIMIT,
        completion_limit=COMPLETION_LIMIT,
    )


def _svg(chart: Chart) -> Markup:
    """The only markup that is not escaped: `svg.clean` has made it of known elements."""
    return Markup(chart.svg)
