"""Draws and tells what was measured of training, tenbin's lines beside those of other tools.

    python bench/draw_train.py [bench/results/train-h200.jsonl] [--image docs/images/training-h200.svg] \\
        [--write docs/performance.md]

Reads the lines of `tenbin bench train` and `bench/peers/train.py` of one run, draws tokens/s (and examples/s
of questions) by work with a mark where each aim is, and prints the table in Markdown. With --write the page's
parts between `<!-- training:NAME -->` and `<!-- /training:NAME -->` are replaced: no number there is typed by
hand. The aims are those of the project's plan for one NVIDIA H200 under 46,000 MiB.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as a script it finds only what stands beside it
from bench import drawing

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
    "liger_ckpt": ("Liger, checkpointing", "#c4b878"),
    "liger": ("Liger", "#8a7a3d"),
    "unsloth_ckpt": ("Unsloth, checkpointing", "#f0b775"),
    "unsloth_plain": ("Unsloth", "#e08214"),
    **drawing.OURS,
}
"""Name and colour by what `drawing.kind` gives, in the order of the bars."""
HEAD = (
    "work",
    "system",
    "adapters",
    "tokens/s",
    "examples/s",
    "planned MiB",
    "peak MiB",
    "plan against a pass",
    "MFU",
    "note",
)
"""Of the table of all lines."""
NEEDED = ("system", "model", "work", "dtype", "tokens_per_s", "examples_per_s", "peak_mib")


def read(path):
    """The lines about training: the newest of each (system, model, work, type, adapters)."""
    return drawing.read(path, "train", NEEDED, key)


def key(line):
    return drawing.kind(line), line["dtype"], line["model"], line["work"], line.get("adapters", 1)


def rate(line):
    """Examples/s of questions, tokens/s of everything else; None: not measured."""
    return line["examples_per_s" if line["work"] == QUESTIONS else "tokens_per_s"]


def best(lines, model, work, kinds):
    """The fastest line of these kinds that trains one adapter; None where none was measured."""
    return drawing.best(lines, model, work, kinds, rate, adapters=1)


def works(lines):
    return drawing.places(lines, AIMS)


def title(model, work):
    name = drawing.SIZES.get(model, model)
    if work == QUESTIONS:
        return f"{name} JSQuAD"
    count, length = map(int, work.split("x"))
    return f"{name} {count} x {length:,}"


PEERS = tuple(k for k in SYSTEMS if k not in drawing.OURS)


def main_table(lines):
    """Work, best peer, ours and the aims."""
    rows = []
    for model, work in works(lines):
        peer = best(lines, model, work, PEERS)
        ours = [best(lines, model, work, (k,)) for k in ("bf16", "fp8")]
        aims = AIMS.get((model, work), (None, None))
        unit = "examples/s" if work == QUESTIONS else "tokens/s"
        cells = [f"{title(model, work)}, {unit}", figure(peer, named=True)]
        for line, aim in zip(ours, aims, strict=True):
            cells += [figure(line, met=reached(line, aim)), drawing.NO_FIGURE if aim is None else f"{aim:,}"]
        cells.append(", ".join(times(line, peer) for line in ours))
        rows.append(cells)
    padded = best(lines, "7b", QUESTIONS, ("peft_ckpt",))
    if padded is not None:
        ours = [best(lines, "7b", QUESTIONS, (k,)) for k in ("bf16", "fp8")]
        cells = ["the same, times PEFT with checkpointing and padding", figure(padded, named=True)]
        for line, aim in zip(ours, AIM_TIMES_PADDED, strict=True):
            met = line is not None and rate(line) >= aim * rate(padded)
            cells += [f"**{times(line, padded)}**" if met else times(line, padded), f"{aim}"]
        rows.append([*cells, ""])
    return drawing.table(drawing.MAIN_HEAD, rows)


def figure(line, *, named=False, met=False):
    """`16,234 (Unsloth, MFU 0.61)`; bold where its aim is met."""
    if line is None:
        return "not measured"
    value = f"{rate(line):,.0f}"
    notes = [drawing.name(line, SYSTEMS)] if named else []
    if line["dtype"] == "fp8-both":
        notes.append("both orders kept")
    if line.get("mfu") is not None:
        notes.append(f"MFU {line['mfu']:.2f}")
    return (f"**{value}**" if met else value) + (f" ({', '.join(notes)})" if notes else "")


def reached(line, aim):
    return line is not None and aim is not None and rate(line) >= aim


def times(line, peer):
    return drawing.ratio(line, peer, rate)


def aims_text(lines):
    """How many aims are met, and one by one those that are not."""
    padded = best(lines, "7b", QUESTIONS, ("peft_ckpt",))
    checks = []  # (what, measured, aim, how it is written, whether less is better)
    for number, dtype in enumerate(("bf16", "fp8")):
        for (model, work), aims in AIMS.items():
            line = best(lines, model, work, (dtype,))
            name = f"{title(model, work)} in {dtype}"
            checks.append((name, None if line is None else rate(line), aims[number], ",.0f", False))
            if (model, work) in AIMS_MFU:
                mfu = None if line is None else line["mfu"]
                checks.append((f"{name}, MFU", mfu, AIMS_MFU[model, work][number], ".2f", False))
        line = best(lines, "7b", QUESTIONS, (dtype,))
        ratio = None if line is None or padded is None else rate(line) / rate(padded)
        name = f"{title('7b', QUESTIONS)} in {dtype}, times PEFT with checkpointing and padding"
        checks.append((name, ratio, AIM_TIMES_PADDED[number], ".1f", False))
    return drawing.aims_text(checks)


def every_line(lines):
    """All that was measured, and what was not with its reason."""
    shown = (
        ("tokens_per_s", ",.0f"),
        ("examples_per_s", ",.1f"),
        ("planned", ",.0f"),
        ("peak_mib", ",.0f"),
        ("off", "+.1%"),
        ("mfu", ".3f"),
    )
    order = {place: i for i, place in enumerate(works(lines))}

    def place(line):
        return order[line["model"], line["work"]], drawing.number(line, SYSTEMS), line["dtype"]

    rows = []
    for line in sorted(lines, key=place):
        name = drawing.name(line, SYSTEMS)
        what = [title(line["model"], line["work"]), name, str(line.get("adapters", 1))]
        figures = line | {"planned": planned(line), "off": plan_off(line)}
        rows.append([*what, *drawing.cells(figures, shown), drawing.remark(line)])
    return drawing.table(HEAD, rows)


def planned(line):
    """MiB of what the peak compares with: of the plan as a measured pass corrected it, where one was made."""
    corrected = line.get("corrected_mib")
    return line.get("planned_mib") if corrected is None else corrected


def plan_off(line):
    """Share by which the plan was over what the measured pass held; below 0: under; None: none was made."""
    predicted = line.get("predicted_mib")
    return None if predicted is None else predicted / line["probed_mib"] - 1


def plan_text(lines):
    """How far the plan was from the measured passes, and the corrected plans from the peaks."""
    probed = [line for line in lines if plan_off(line) is not None and line["peak_mib"] is not None]
    if not probed:
        return "Not measured yet."
    offs = [plan_off(line) for line in probed]
    after = [planned(line) / line["peak_mib"] - 1 for line in probed]
    return (
        f"{len(probed)} lines: the plan against the measured pass {min(offs):+.1%} to {max(offs):+.1%}; the"
        f" corrected plan against the peak of the steps {min(after):+.1%} to {max(after):+.1%}."
    )


def chart(lines):
    """Questions beside all others, in examples/s."""
    panels = {"tokens/s": [], "examples/s": []}
    for model, work in works(lines):
        for name, (label, _) in SYSTEMS.items():
            line = best(lines, model, work, (name,))
            aim = drawing.aim(AIMS, model, work, name)
            if line is not None:
                unit = "examples/s" if work == QUESTIONS else "tokens/s"
                row = {"work": title(model, work), "system": label, "value": rate(line), "aim": aim}
                panels[unit].append(row)
    return drawing.chart(list(panels.items()), list(SYSTEMS.values()))


def main():
    drawing.main(
        __doc__,
        "training",
        "training",
        ("train-h200.jsonl", "training-h200.svg"),
        read,
        {"table": main_table, "aims": aims_text, "lines": every_line, "plan": plan_text},
        chart,
        "Training speed by work and system, with the aims as red marks",
    )


if __name__ == "__main__":
    main()
