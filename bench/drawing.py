"""What the pages' drawings share: lines of a bench are read, tabled, charted, and written between markers."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import altair as alt
import vl_convert

ROOT = Path(__file__).parents[1]
NO_FIGURE = "-"
SIZES = {"7b": "7B", "13b": "13B"}
"""Models as they are written; others by their names."""
OURS = {
    "bf16": ("tenbin, bf16", "#3b7dd8"),
    "fp8": ("tenbin, fp8", "#1f4a8a"),
    "nf4": ("tenbin, nf4", "#0f2547"),
}
"""Name and colour of tenbin's own bars, by type of weights."""
MAIN_HEAD = (
    "work",
    "best peer",
    "tenbin bf16",
    "aim",
    "tenbin fp8",
    "aim",
    "times the best peer (bf16, fp8)",
)
"""Of the table of aims."""


def read(path, bench, needed, key):
    """The lines of a bench: the newest of each key.

    `needed`: keys that every line has; `key`: of a line.
    """
    found, older = {}, 0
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = json.loads(text)
        if line.get("bench") != bench:
            continue
        missing = [name for name in needed if name not in line]
        if missing:
            sys.exit(f"{path}:{number}: {', '.join(missing)} missing")
        older += key(line) in found
        found[key(line)] = line
    if older:
        print(f"{older} lines were measured again later and are not shown", file=sys.stderr)
    return list(found.values())


def places(lines, aims):
    """(model, work): those with an aim first, then all others."""
    others = {(line["model"], line["work"]): None for line in lines}
    return [*aims, *(place for place in others if place not in aims)]


def kind(line):
    """What names and colours are looked up by: our type of weights, or the other tool."""
    if line["system"] != "tenbin":
        return line.get("variant", line["system"])
    return "fp8" if line["dtype"] == "fp8-both" else line["dtype"]


def name(line, systems):
    """Of who was measured, as it is written."""
    found = systems.get(kind(line), (kind(line), ""))[0]
    return f"{found} (both orders)" if line["dtype"] == "fp8-both" else found


def number(line, systems):
    """Place among the bars; what is not drawn comes first."""
    kinds = list(systems)
    return kinds.index(kind(line)) if kind(line) in kinds else -1


def aim(aims, model, work, dtype):
    """Of one type of weights, where there is one."""
    return dict(zip(("bf16", "fp8"), aims.get((model, work), ()), strict=False)).get(dtype)


def best(lines, model, work, kinds, rate, *, adapters):
    """The fastest line of these kinds with so many adapters; None where none was measured."""

    def counts(line):
        there = (line["model"], line["work"], line.get("adapters", adapters)) == (model, work, adapters)
        return there and kind(line) in kinds and rate(line) is not None

    return max(filter(counts, lines), key=rate, default=None)


def table(head, rows):
    """In Markdown."""
    return "\n".join(
        [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    )


def cells(line, shown):
    """A figure for each (key, format), a dash where there is none."""
    return [NO_FIGURE if line.get(key) is None else format(line[key], form) for key, form in shown]


def remark(line):
    """Why there is no figure, or what it does not say."""
    return "; ".join(line[key].replace("|", "/") for key in ("reason", "note") if line.get(key))


def ratio(one, other, rate):
    """How many times as fast; a dash where one of both was not measured."""
    return NO_FIGURE if one is None or other is None else f"{rate(one) / rate(other):.2f}"


def aims_text(checks):
    """How many aims are met, and one by one those that are not.

    `checks`: (what, measured or None, aim, how both are written, whether less is better).
    """

    def met(got, aim, less):
        return got is not None and (got <= aim if less else got >= aim)

    missed = [
        f"- {name}: {'not measured' if got is None else format(got, shown)}; the aim was {aim:{shown}}."
        for name, got, aim, shown, less in checks
        if not met(got, aim, less)
    ]
    if not missed:
        return f"All {len(checks)} aims are met."
    return "\n".join([f"{len(checks) - len(missed)} of {len(checks)} aims are met. Not met:", "", *missed])


def run_text(lines):
    """Where and with what it was measured."""

    def named(values):
        return ", ".join(dict.fromkeys(str(v) for v in values if v not in (None, "")))

    roofs = [line["roof_tflops"] for line in lines if line.get("roof_tflops")]
    packages = {}
    for line in lines:
        for name, version in line.get("versions", {}).items():
            if version is not None:
                packages.setdefault(name, {})[version] = None
    versions = ", ".join(f"{name} {'/'.join(found)}" for name, found in packages.items())
    cap = named(f"{line['cap_mib']:,} MiB" for line in lines if line.get("cap_mib")) or "none"
    rates = f"{min(roofs):,.0f} to {max(roofs):,.0f} TFLOP/s" if roofs else "not measured"
    return (
        f"{named(line.get('gpu') for line in lines)}; hard cap {cap}; rate of a large bf16 matrix product in"
        f" the same processes {rates}; {versions}; revision {named(line.get('commit') for line in lines)}."
    )


def chart(panels, systems):
    """Vega-Lite: bars by work and system side by side, aims as marks.

    `panels`: (unit, rows of work, system, value, aim), left to right, empty ones left out; `systems`: name
    and colour, in the order of the bars.
    """
    there = {row["system"] for _, rows in panels for row in rows}
    kept = [(name, colour) for name, colour in systems if name in there]
    if not there:
        sys.exit("no line has a figure")
    drawn = [_panel(rows, unit, kept) for unit, rows in panels if rows]
    whole = alt.hconcat(*drawn, spacing=30, background="white")
    return whole.configure_view(stroke=None).configure_axis(grid=True, gridColor="#e6e6e6").to_dict()


def _panel(rows, unit, systems):
    order = list(dict.fromkeys(row["work"] for row in rows))
    shown = [name for name, _ in systems]
    step = alt.Step(15, **{"for": "offset"})
    base = alt.Chart(alt.Data(values=rows)).properties(width=step, height=300)
    x = alt.X("work:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, ticks=False, domain=False))
    offset = alt.XOffset("system:N", sort=shown, scale=alt.Scale(domain=shown))
    scale = alt.Scale(domain=shown, range=[colour for _, colour in systems])
    bars = base.mark_bar().encode(
        x=x,
        xOffset=offset,
        y=alt.Y("value:Q", title=unit),
        color=alt.Color("system:N", sort=shown, scale=scale, legend=alt.Legend(title=None, orient="bottom")),
    )
    marks = (
        base.transform_filter("isValid(datum.aim)")
        .mark_tick(color="#d1495b", thickness=3, size=15, opacity=1)
        .encode(x=x, xOffset=offset, y=alt.Y("aim:Q", title=unit))
    )
    return bars + marks


def main(doc, section, about, files, read, parts, chart_of, alt_text):
    """A drawing as a program: lines in; an image, a table and a page out.

    `section`: of the page's markers; `files`: names of lines and image; `parts`: (lines) -> text of each.
    """
    results, image = files
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "bench/results" / results)
    parser.add_argument("--image", type=Path, default=ROOT / "docs/images" / image)
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="fill the parts of this page")
    options = parser.parse_args()
    if not options.results.exists():
        sys.exit(f"there is no {options.results}: measure first")
    lines = read(options.results)
    if not lines:
        sys.exit(f"{options.results} has no line about {about}")
    texts = {"run": run_text(lines), **{name: text(lines) for name, text in parts.items()}}
    svg = vl_convert.vegalite_to_svg(chart_of(lines), allowed_base_urls=[])
    options.image.parent.mkdir(parents=True, exist_ok=True)
    options.image.write_text(svg, encoding="utf-8")
    print(texts["table"])
    if options.write is not None:
        where = Path(os.path.relpath(options.image, options.write.parent))
        texts["table"] = f"![{alt_text}]({where.as_posix()})\n\n{texts['table']}"
        page = replace_parts(options.write.read_text(encoding="utf-8"), section, texts)
        options.write.write_text(page, encoding="utf-8")


def replace_parts(page, section, parts):
    """The page with what stands between its markers replaced."""
    for name, text in parts.items():
        begin, end = f"<!-- {section}:{name} -->", f"<!-- /{section}:{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            sys.exit(f"the page has no {begin} ... {end}")
        page = pattern.sub(lambda _, new=f"{begin}\n{text}\n{end}": new, page)
    return page
