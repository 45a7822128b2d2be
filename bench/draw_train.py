"""Draws and tells what was measured of training, tenbin's lines beside those of other tools.

    python bench/draw_train.py [bench/results/train-h200.jsonl] [--image docs/images/training-h200.svg] \\
        [--write docs/performance.md]

Reads the lines of `tenbin bench train` and `bench/peers/train.py` of one run, draws tokens/s (and examples/s
of questions) by work with a mark where each aim is, and prints the table in Markdown. With --write the page's
parts between `<!-- training:NAME -->` and `<!-- /training:NAME -->` are replaced: no number there is typed by
hand. The aims are those of the project's plan for one NVIDIA H200 under 46,000 MiB.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import altair as alt
import vl_convert

ROOT = Path(__file__).parents[1]
AIMS = {
    ("7b", "1x1700"): (19_000, 25_000),
    ("7b", "1x4096"): (20_000, 28_000),
    ("7b", "16x256"): (21_000, 29_000),
    ("7b", "1x32768"): (9_000, 11_000),
    ("13b", "1x4096"): (10_000, 14_000),
    ("7b", "jsquad"): (320, 450),
}
"""(bf16, fp8): tokens/s; examples/s of questions."""
AIMS_MFU = {("7b", "1x4096"): (0.75, 1.0)}
AIM_TIMES_PADDED = (12, 17)
"""Questions against PEFT with checkpointing and padding."""
QUESTIONS = "jsquad"
SYSTEMS = {
    "peft_ckpt": ("PEFT, checkpointing", "#9aa5b1"),
    "peft": ("PEFT", "#5b6b7b"),
    "liger": ("Liger", "#8a7a3d"),
    "unsloth_ckpt": ("Unsloth, checkpointing", "#f0b775"),
    "unsloth_plain": ("Unsloth", "#e08214"),
    "bf16": ("tenbin, bf16", "#3b7dd8"),
    "fp8": ("tenbin, fp8", "#1f4a8a"),
}
"""Name and colour by what `kind` gives, in the order of the bars."""
NEEDED = ("system", "model", "work", "dtype", "tokens_per_s", "examples_per_s", "peak_mib")
NO_FIGURE = "-"


def read(path):
    """The lines about training: the newest of each (system, model, work, type, adapters)."""
    found, older = {}, 0
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = json.loads(text)
        if line.get("bench") != "train":
            continue
        missing = [key for key in NEEDED if key not in line]
        if missing:
            sys.exit(f"{path}:{number}: {', '.join(missing)} missing")
        key = (kind(line), line["dtype"], line["model"], line["work"], line.get("adapters", 1))
        older += key in found
        found[key] = line
    if older:
        print(f"{older} lines were measured again later and are not shown", file=sys.stderr)
    return list(found.values())


def kind(line):
    """Key of SYSTEMS."""
    if line["system"] != "tenbin":
        return line.get("variant", line["system"])
    return "bf16" if line["dtype"] == "bf16" else "fp8"


def rate(line):
    """Examples/s of questions, tokens/s of everything else; None: not measured."""
    return line["examples_per_s" if line["work"] == QUESTIONS else "tokens_per_s"]


def best(lines, model, work, kinds):
    """The fastest line of these kinds that trains one adapter; None where none was measured."""
    there = [
        line
        for line in lines
        if (line["model"], line["work"]) == (model, work)
        and kind(line) in kinds
        and line.get("adapters", 1) == 1
        and rate(line) is not None
    ]
    return max(there, key=rate, default=None)


def works(lines):
    """(model, work): those with an aim first, then all others."""
    others = {(line["model"], line["work"]): None for line in lines}
    return [*AIMS, *(place for place in others if place not in AIMS)]


def title(model, work):
    sizes = {"7b": "7B", "13b": "13B"}
    name = sizes.get(model, model)
    if work == QUESTIONS:
        return f"{name} JSQuAD"
    count, length = map(int, work.split("x"))
    return f"{name} {count} x {length:,}"


PEERS = tuple(k for k in SYSTEMS if k not in ("bf16", "fp8"))


def main_table(lines):
    """Work, best peer, ours and the aims."""
    head = "| work | best peer | tenbin bf16 | aim | tenbin fp8 | aim | times the best peer (bf16, fp8) |"
    out = [head, "|" + " --- |" * 7]
    for model, work in works(lines):
        peer = best(lines, model, work, PEERS)
        ours = [best(lines, model, work, (k,)) for k in ("bf16", "fp8")]
        aims = AIMS.get((model, work), (None, None))
        unit = "examples/s" if work == QUESTIONS else "tokens/s"
        cells = [f"{title(model, work)}, {unit}", figure(peer, named=True)]
        for line, aim in zip(ours, aims, strict=True):
            cells += [figure(line, met=reached(line, aim)), NO_FIGURE if aim is None else f"{aim:,}"]
        cells.append(", ".join(times(line, peer) for line in ours))
        out.append(f"| {' | '.join(cells)} |")
    padded = best(lines, "7b", QUESTIONS, ("peft_ckpt",))
    if padded is not None:
        ours = [best(lines, "7b", QUESTIONS, (k,)) for k in ("bf16", "fp8")]
        cells = ["the same, times PEFT with checkpointing and padding", figure(padded, named=True)]
        for line, aim in zip(ours, AIM_TIMES_PADDED, strict=True):
            cells += [times(line, padded), f"{aim}"]
        out.append(f"| {' | '.join([*cells, ''])} |")
    return "\n".join(out)


def figure(line, *, named=False, met=False):
    """`16,234 (Unsloth, MFU 0.61)`; bold where its aim is met."""
    if line is None:
        return "not measured"
    value = f"{rate(line):,.0f}"
    notes = [SYSTEMS.get(kind(line), (kind(line), ""))[0]] if named else []
    if line["dtype"] == "fp8-both":
        notes.append("both orders kept")
    if line.get("mfu") is not None:
        notes.append(f"MFU {line['mfu']:.2f}")
    return (f"**{value}**" if met else value) + (f" ({', '.join(notes)})" if notes else "")


def reached(line, aim):
    return line is not None and aim is not None and rate(line) >= aim


def times(line, peer):
    return NO_FIGURE if line is None or peer is None else f"{rate(line) / rate(peer):.2f}"


def aims_text(lines):
    """How many aims are met, and one by one those that are not."""
    padded = best(lines, "7b", QUESTIONS, ("peft_ckpt",))
    checks = []  # (what, measured, aim, how it is written)
    for number, dtype in enumerate(("bf16", "fp8")):
        for (model, work), aims in AIMS.items():
            line = best(lines, model, work, (dtype,))
            name = f"{title(model, work)} in {dtype}"
            checks.append((name, None if line is None else rate(line), aims[number], ",.0f"))
            if (model, work) in AIMS_MFU:
                mfu = None if line is None else line["mfu"]
                checks.append((f"{name}, MFU", mfu, AIMS_MFU[model, work][number], ".2f"))
        line = best(lines, "7b", QUESTIONS, (dtype,))
        ratio = None if line is None or padded is None else rate(line) / rate(padded)
        name = f"{title('7b', QUESTIONS)} in {dtype}, times PEFT with checkpointing and padding"
        checks.append((name, ratio, AIM_TIMES_PADDED[number], ".1f"))
    missed = [
        f"- {name}: {'not measured' if got is None else format(got, shown)}; the aim was {aim:{shown}}."
        for name, got, aim, shown in checks
        if got is None or got < aim
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


def every_line(lines):
    """All that was measured, and what was not with its reason."""
    out = [
        "| work | system | adapters | tokens/s | examples/s | planned MiB | peak MiB | MFU | note |",
        "|" + " --- |" * 9,
    ]
    order = {place: i for i, place in enumerate(works(lines))}
    kinds = list(SYSTEMS)

    def place(line):
        k = kind(line)
        return order[line["model"], line["work"]], kinds.index(k) if k in kinds else -1, line["dtype"]

    for line in sorted(lines, key=place):
        name = SYSTEMS.get(kind(line), (kind(line), ""))[0]
        if line["dtype"] == "fp8-both":
            name += " (both orders)"
        figures = [
            NO_FIGURE if line.get(key) is None else format(line[key], shown)
            for key, shown in (
                ("tokens_per_s", ",.0f"),
                ("examples_per_s", ",.1f"),
                ("planned_mib", ",.0f"),
                ("peak_mib", ",.0f"),
                ("mfu", ".3f"),
            )
        ]
        note = "; ".join(line[key].replace("|", "/") for key in ("reason", "note") if line.get(key))
        cells = [title(line["model"], line["work"]), name, str(line.get("adapters", 1)), *figures, note]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def chart(lines):
    """Vega-Lite: bars by work and system, aims as marks; questions beside, in examples/s."""
    rows = []
    for model, work in works(lines):
        for name, (label, _) in SYSTEMS.items():
            line = best(lines, model, work, (name,))
            aim = dict(zip(("bf16", "fp8"), AIMS.get((model, work), ()), strict=False)).get(name)
            if line is not None:
                value = rate(line)
                rows.append({"work": title(model, work), "system": label, "value": value, "aim": aim})
    shown = [label for label, _ in SYSTEMS.values() if any(row["system"] == label for row in rows)]
    colours = [colour for label, colour in SYSTEMS.values() if label in shown]
    names = [title(model, work) for model, work in works(lines)]
    questions = {title(model, work) for model, work in works(lines) if work == QUESTIONS}
    panels = []
    for unit, inside in (("tokens/s", False), ("examples/s", True)):
        part = [row for row in rows if (row["work"] in questions) == inside]
        if part:
            order = [n for n in names if any(row["work"] == n for row in part)]
            panels.append(panel(part, unit, order, shown, colours))
    whole = alt.hconcat(*panels, spacing=30, background="white")
    return whole.configure_view(stroke=None).configure_axis(grid=True, gridColor="#e6e6e6").to_dict()


def panel(rows, unit, order, shown, colours):
    step = alt.Step(15, **{"for": "offset"})
    base = alt.Chart(alt.Data(values=rows)).properties(width=step, height=300)
    x = alt.X("work:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, ticks=False, domain=False))
    offset = alt.XOffset("system:N", sort=shown, scale=alt.Scale(domain=shown))
    scale = alt.Scale(domain=shown, range=colours)
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


def replace_parts(page, parts):
    """The page with what stands between its markers replaced."""
    for name, text in parts.items():
        begin, end = f"<!-- training:{name} -->", f"<!-- /training:{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            sys.exit(f"the page has no {begin} ... {end}")
        page = pattern.sub(lambda _, new=f"{begin}\n{text}\n{end}": new, page)
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "bench/results/train-h200.jsonl")
    parser.add_argument("--image", type=Path, default=ROOT / "docs/images/training-h200.svg")
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="fill the parts of this page")
    options = parser.parse_args()
    lines = read(options.results)
    if not lines:
        sys.exit(f"{options.results} has no line about training")
    svg = vl_convert.vegalite_to_svg(chart(lines), allowed_base_urls=[])
    options.image.parent.mkdir(parents=True, exist_ok=True)
    options.image.write_text(svg, encoding="utf-8")
    table = main_table(lines)
    print(table)
    if options.write is not None:
        where = Path(os.path.relpath(options.image, options.write.parent))
        picture = (
            f"![Training speed by work and system, with the aims as red marks]({where.as_posix()})\n\n{table}"
        )
        parts = {
            "run": run_text(lines),
            "table": picture,
            "aims": aims_text(lines),
            "lines": every_line(lines),
        }
        page = replace_parts(options.write.read_text(encoding="utf-8"), parts)
        options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
