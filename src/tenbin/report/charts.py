"""Charts: scores with intervals, learning curves, lengths and categories, as inline SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from tenbin.report.advice import level_text
from tenbin.report.evidence import Evidence, System
from tenbin.report.svg import FONTS, render
from tenbin.report.text import rate_text, scale_of
from tenbin.report.words import Words

COLOURS = ["#3b7dd8", "#e08214", "#2a9d6f", "#b5559b", "#8a7a3d", "#d1495b", "#5f6fd0", "#5b8c99"]
"""Legible on white and on near-black."""
MAX_POINTS = 120
"""Points of one loss curve; more steps are averaged, and the chart says so."""
WIDTH = 860


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of the report."""

    id: str
    title: str
    svg: str
    """Safe markup; the only one that the template does not escape."""
    note: str = ""


def forest_chart(evidence: Evidence, say: Words, chosen: str | None) -> Chart | None:
    """The headline score of every system with its interval; the recommended one stands out."""
    scale = scale_of(evidence.headline)
    marks = {True: say("chart.clearly_chosen"), False: say("chart.others")}
    rows = []
    for system in evidence.systems:
        summary = next((m for m in system.result.metrics if m.metric == evidence.headline), None)
        if summary is None or summary.estimate is None:
            continue
        value, low, high = summary.estimate[:3]
        rows.append(
            {
                "system": system.name,
                "value": scale.number(value),
                "low": scale.number(low),
                "high": scale.number(high),
                "mark": marks[system.key == chosen],
            }
        )
    if not rows:
        return None
    names = [str(row["system"]) for row in rows]
    title = say("chart.forest", metric=evidence.headline_name, level=level_text(evidence.level))
    colour = alt.Color(
        "mark:N", scale=alt.Scale(domain=list(marks.values()), range=["#d1495b", "#3b7dd8"]), legend=None
    )
    y = alt.Y("system:N", sort=names, title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False))
    x_title = evidence.headline_name + (" (%)" if scale.percent else "")
    x = alt.X("value:Q", scale=alt.Scale(zero=False, nice=True), title=x_title)
    base = alt.Chart(inline_data(rows))
    rule = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q", title=x_title), x2="high:Q", y=y, color=colour
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour)
    chart = (rule + dots).properties(width=WIDTH - 200, height=alt.Step(22))
    return Chart("forest", title, finished_svg(chart, "forest", title))


def loss_chart(evidence: Evidence, say: Words) -> Chart | None:
    """Training loss by step, one panel a model, one colour a learning rate."""
    tuned = [s for s in evidence.of_kind("tuned") if s.losses]
    if not tuned:
        return None
    width = max(-(-len(s.losses) // MAX_POINTS) for s in tuned)
    rows = [
        {"model": s.model, "rate": rate_text(s.rate or 0), "run": s.name, "step": step, "loss": loss}
        for s in tuned
        for step, loss in binned(s.losses, width)
    ]
    title = say("chart.loss")
    chart = (
        alt.Chart(inline_data(rows))
        .mark_line(strokeWidth=1.6, interpolate="monotone")
        .encode(
            x=alt.X("step:Q", title=say("chart.step"), axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("loss:Q", title=say("chart.loss_axis"), scale=alt.Scale(zero=False)),
            color=_rate_colour(tuned, say),
            detail="run:N",
        )
    )
    note = say("chart.loss_binned", n=width) if width > 1 else ""
    return Chart("loss", title, finished_svg(_panels(chart, tuned), "loss", title), note)


def validation_chart(evidence: Evidence, say: Words) -> Chart | None:
    """The headline metric on validation by epoch; the chosen epoch has a ring."""
    scale = scale_of(evidence.headline)
    rows = []
    for system in evidence.of_kind("tuned"):
        for record in system.run.epochs if system.run else ():
            found = (
                [m for m in record.validation.metrics if m.metric == evidence.headline]
                if record.validation
                else []
            )
            if found and found[0].estimate is not None:
                rows.append(
                    {
                        "model": system.model,
                        "rate": rate_text(system.rate or 0),
                        "run": system.name,
                        "epoch": record.epoch,
                        "value": scale.number(found[0].estimate.value),
                        "chosen": system.run is not None and record.epoch == system.run.best_epoch,
                    }
                )
    if not rows:
        return None
    tuned = [s for s in evidence.of_kind("tuned") if s.name in {row["run"] for row in rows}]
    title = say("chart.validation", metric=evidence.headline_name, split=say.split("validation"))
    y_title = evidence.headline_name + (" (%)" if scale.percent else "")
    last = max(record.epoch for s in tuned if s.run for record in s.run.epochs)
    ticks = list(range(1, last + 1, -(-last // 12)))
    base = alt.Chart(inline_data(rows)).encode(
        x=alt.X("epoch:Q", title=say("chart.epoch"), axis=alt.Axis(values=ticks, format="d", grid=False)),
        y=alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False)),
        color=_rate_colour(tuned, say),
        detail="run:N",
    )
    lines = base.mark_line(strokeWidth=1.6)
    dots = base.mark_point(filled=True, size=22, opacity=1)
    rings = base.transform_filter("datum.chosen").mark_point(filled=False, size=120, strokeWidth=2)
    chart = _panels(lines + dots + rings, tuned)
    return Chart("validation", title, finished_svg(chart, "validation", title))


def histogram_chart(
    chart_id: str, title: str, histograms: Mapping[str, Sequence[tuple[float, float, int]]], say: Words
) -> Chart | None:
    """Distributions of lengths, one panel a field: (from, to, number of texts) of every bar."""
    rows = [
        {"field": field, "low": low, "high": high, "count": number}
        for field, bars in histograms.items()
        for low, high, number in bars
    ]
    if not rows:
        return None
    chart = (
        alt.Chart(inline_data(rows))
        .mark_bar(color="#3b7dd8", binSpacing=0.5)
        .encode(
            x=alt.X("low:Q", title=say("chart.characters"), bin="binned", axis=alt.Axis(grid=False)),
            x2="high:Q",
            y=alt.Y("count:Q", title=say("chart.examples")),
        )
        .properties(width=240, height=150)
        .facet(
            facet=alt.Facet("field:N", title=None, sort=list(histograms), header=facet_header()),
            columns=3,
            bounds="flush",
            spacing=alt.RowColnumber(row=95, column=70),
        )
        .resolve_scale(x="independent", y="independent")
    )
    return Chart(chart_id, title, finished_svg(chart, chart_id, title))


def balance_chart(shares: Mapping[str, Mapping[str, float]], say: Words) -> Chart | None:
    """Share of every category in every set."""
    rows = [
        {"split": say.split(split), "category": category, "share": share, "order": order}
        for split, by_category in shares.items()
        for order, (category, share) in enumerate(by_category.items())
    ]
    if not rows:
        return None
    title = say("chart.balance")
    chart = (
        alt.Chart(inline_data(rows))
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title=None, axis=alt.Axis(format="%"), stack="zero"),
            y=alt.Y("split:N", title=None, sort=[say.split(s) for s in shares], axis=alt.Axis(ticks=False)),
            order=alt.Order("order:Q"),
            color=alt.Color(
                "category:N",
                title=None,
                sort=None,
                scale=alt.Scale(range=COLOURS),
                legend=alt.Legend(orient="top", symbolType="square", labelLimit=300, columns=6),
            ),
        )
        .properties(width=WIDTH - 140, height=alt.Step(30))
    )
    return Chart("balance", title, finished_svg(chart, "balance", title))


def binned(losses: Sequence[tuple[int, float]], width: int) -> list[tuple[float, float]]:
    """Means of `width` steps each: (mean step, mean loss)."""
    found = []
    for start in range(0, len(losses), width):
        part = losses[start : start + width]
        found.append((sum(s for s, _ in part) / len(part), sum(v for _, v in part) / len(part)))
    return found


def inline_data(rows: Sequence[Mapping[str, object]]) -> alt.InlineData:
    """Rows as a chart's data."""
    return alt.InlineData(values=[dict(row) for row in rows])


def _rate_colour(tuned: Sequence[System], say: Words) -> alt.Color:
    rates = [rate_text(r) for r in sorted({s.rate or 0 for s in tuned}, reverse=True)]
    return alt.Color(
        "rate:N",
        sort=rates,
        scale=alt.Scale(domain=rates, range=COLOURS),
        legend=alt.Legend(title=say("chart.rate"), orient="top", symbolType="stroke", symbolStrokeWidth=3),
    )


def _panels(chart: Any, tuned: Sequence[System]) -> Any:  # noqa: ANN401  (any kind of Altair chart)
    models = list(dict.fromkeys(s.model or "" for s in tuned))
    width = 400 if len(models) > 1 else 760
    return chart.properties(width=width, height=180).facet(
        facet=alt.Facet("model:N", title=None, sort=models, header=facet_header()), columns=2, bounds="flush"
    )


def facet_header() -> alt.Header:
    """How panels are titled."""
    return alt.Header(labelFontSize=12, labelFontWeight="bold", labelColor="currentColor", labelLimit=260)


def finished_svg(chart: Any, chart_id: str, label: str) -> str:  # noqa: ANN401  (any kind of Altair chart)
    """A chart in the report's fonts and colours as safe markup."""
    axis = alt.AxisConfig(
        labelColor="currentColor",
        titleColor="currentColor",
        gridColor="#8888",
        gridOpacity=0.5,
        domainColor="#888",
        tickColor="#888",
        labelFontSize=11,
        titleFontSize=11,
        titleFontWeight="normal",
    )
    finished = chart.configure(
        font=FONTS,
        background="transparent",
        axis=axis,
        view=alt.ViewConfig(stroke=None),
        legend=alt.LegendConfig(labelColor="currentColor", titleColor="currentColor", labelFontSize=11),
    )
    return render(finished.to_dict(), chart_id, label)
