"""Charts of RAG fitness: score by length, score by length and depth, and "not in the text" by length."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from tenbin.rag.result import Figure, RagResult
from tenbin.report.charts import COLOURS, WIDTH, Chart, facet_header, finished_svg, inline_data
from tenbin.report.text import scale_of
from tenbin.report.words import Words

Named = Mapping[str, RagResult]
"""Name of the system as in the other tables -> what was found."""


def curve_chart(found: Named, say: Words) -> Chart | None:
    """The headline score by length with its interval, one colour a system."""
    first = next(iter(found.values()))
    scale = scale_of(first.metric)
    rows = []
    for name, result in found.items():
        for length in result.lengths:
            figure = result.find("score", "present" if length else "alone", length)
            rows += _point(figure, name, length, say, percent=scale.percent)
    if not rows:
        return None
    title = say("rag.curve", metric=first.metric_name)
    y_title = first.metric_name + (" (%)" if scale.percent else "")
    chart = _lines(rows, list(found), y_title, say, solid=None)
    return Chart("rag-curve", title, finished_svg(chart, "rag-curve", title))


def absent_chart(found: Named, say: Words) -> Chart | None:
    """How often a system says that the text has no answer: where that is so, and where it is not."""
    marks = {"absent": say("rag.is_absent"), "present": say("rag.is_present")}
    rows: list[dict[str, Any]] = []
    for name, result in found.items():
        for length in result.lengths:
            for condition, mark in (("absent", marks["absent"]), ("present", marks["present"])):
                figure = result.find("says_absent", "absent" if condition == "absent" else "present", length)
                rows += [
                    {**row, "mark": mark, "line": f"{name} {mark}"}
                    for row in _point(figure, name, length, say, percent=True)
                ]
    if not any(row["mark"] == marks["absent"] for row in rows):
        return None
    title = say("rag.absent_chart")
    chart = _lines(rows, list(found), say("rag.share_axis"), say, solid=list(marks.values()))
    return Chart("rag-absent", title, finished_svg(chart, "rag-absent", title))


def _point(
    figure: Figure | None, name: str, length: int, say: Words, *, percent: bool
) -> list[dict[str, Any]]:
    if figure is None or figure.estimate is None:
        return []
    times = 100 if percent else 1
    value, low, high = (times * number for number in figure.estimate[:3])
    label = f"{length:,}" if length else say("rag.alone")
    return [{"system": name, "length": label, "value": value, "low": low, "high": high, "line": name}]


def _lines(
    rows: list[dict[str, Any]], systems: list[str], y_title: str, say: Words, *, solid: list[str] | None
) -> Any:  # noqa: ANN401  (a layered Altair chart)
    """Lines with intervals over lengths, in the order of the rows."""
    lengths = sorted({row["length"] for row in rows}, key=_size)
    x = alt.X("length:N", sort=lengths, title=say("rag.length_axis"), axis=alt.Axis(labelAngle=0, grid=False))
    colour = alt.Color(
        "system:N",
        title=None,
        sort=systems,
        scale=alt.Scale(domain=systems, range=COLOURS),
        legend=alt.Legend(orient="top", labelLimit=320, columns=3),
    )
    dash: dict[str, Any] = {}
    if solid is not None:
        dash["strokeDash"] = alt.StrokeDash(
            "mark:N",
            title=None,
            sort=solid,
            scale=alt.Scale(domain=solid, range=[[1, 0], [5, 4]]),
            legend=alt.Legend(orient="top", labelLimit=320),
        )
    offset = alt.XOffset("system:N", sort=systems)
    base = alt.Chart(inline_data(rows)).encode(x=x, color=colour, detail="line:N")
    line = base.mark_line(strokeWidth=1.6).encode(y=alt.Y("value:Q", title=y_title), xOffset=offset, **dash)
    bars = base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(y="low:Q", y2="high:Q", xOffset=offset)
    dots = base.mark_point(filled=True, size=40, opacity=1).encode(y="value:Q", xOffset=offset)
    return (bars + line + dots).properties(width=WIDTH - 140, height=240)


def _size(label: str) -> int:
    digits = label.replace(",", "")
    return int(digits) if digits.isdigit() else 0


def heat_chart(found: Named, say: Words) -> Chart | None:
    """The headline score by length and depth, one panel a system."""
    first = next(iter(found.values()))
    scale = scale_of(first.metric)
    rows = [
        {
            "system": name,
            "length": f"{figure.length:,}",
            "depth": f"{figure.depth:.0%}",
            "value": scale.number(figure.estimate.value),
            "shown": f"{scale.number(figure.estimate.value):.{0 if scale.percent else 2}f}",
            "dark": figure.estimate.value > 0.6,
        }
        for name, result in found.items()
        for figure in result.figures
        if figure.kind == "score" and figure.depth is not None and figure.estimate is not None
    ]
    if not rows:
        return None
    title = say("rag.heat", metric=first.metric_name)
    lengths = sorted({str(row["length"]) for row in rows}, key=_size)
    depths = sorted({str(row["depth"]) for row in rows}, key=lambda text: float(text[:-1]))
    top = 100 if scale.percent else 1
    base = alt.Chart(inline_data(rows)).encode(
        x=alt.X("length:N", sort=lengths, title=say("rag.length_axis"), axis=alt.Axis(labelAngle=0)),
        y=alt.Y("depth:N", sort=depths, title=say("rag.depth_axis")),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "value:Q", scale=alt.Scale(domain=[0, top], range=["#eef3fa", "#1f5fb4"]), legend=None
        )
    )
    texts = base.mark_text(fontSize=11).encode(
        text="shown:N",
        color=alt.condition("datum.dark", alt.value("#ffffff"), alt.value("#1b2733")),
    )
    one = len(found) == 1
    chart = (
        (cells + texts)
        .properties(width=(WIDTH - 200) if one else 330, height=36 * len(depths))
        .facet(
            facet=alt.Facet("system:N", title=None, sort=list(found), header=facet_header()),
            columns=1 if one else 2,
        )
    )
    return Chart("rag-heat", title, finished_svg(chart, "rag-heat", title))
