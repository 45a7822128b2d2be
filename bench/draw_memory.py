"""Tells how far the plan was from what the GPU held: planned against held memory, point by point.

    python bench/draw_memory.py [FILE.jsonl ...] [--write docs/performance.md]

Reads what `tenbin bench train` wrote to bench/results/memory-h200.jsonl, or to the files that are named:
tenbin's lines on a GPU with both figures; of a file of training runs those of its last revision; of lines
that measure the same (model, work, type, adapters, cap, levels) in one file the last. Where a measured pass
corrected the plan, plan and pass are compared, which kept the same levels. Prints the counts and
the table; with --write the page's parts between `<!-- memory:NAME -->` and `<!-- /memory:NAME -->` are
replaced. The aims are those of the plan: 40 points or more, each planned within 5 % of what was held and
never more than 2 % under it.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as a script it finds only what stands beside it
from bench import draw_train, drawing

FILES = (drawing.ROOT / "bench/results/memory-h200.jsonl",)
MOST_OVER, MOST_UNDER = 5, 2  # %
AIM_POINTS = 40
WHAT = ("model", "work", "dtype", "adapters")
NEEDED = (*WHAT, "planned_mib", "peak_mib", "gpu", "commit")
HEAD = (
    "work",
    "weights",
    "adapters",
    "cap MiB",
    "kept",
    "planned MiB",
    "held MiB",
    "planned against held",
    "revision",
)


def read(paths):
    """The points, in the order of the files and of the first line of each."""
    return [point for path in paths for point in _points(path)]


def _points(path):
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = json.loads(text)
        if line.get("bench") not in ("train", "memory") or line.get("system") != "tenbin":
            continue
        missing = [name for name in NEEDED if name not in line]
        if missing:
            sys.exit(f"{path}:{number}: {', '.join(missing)} missing")
        if line["planned_mib"] is not None and line["peak_mib"] is not None and "allocated_mib" in line:
            lines.append(line)  # others did not fit
    lines = [_of_one_pass(line) for line in lines if line["allocated_mib"] is not None]  # a CPU has no cap
    if lines and lines[-1]["bench"] == "train":
        lines = [line for line in lines if line["commit"] == lines[-1]["commit"]]
    found = {key(line): line for line in lines}
    return list(found.values())


def _of_one_pass(line):
    """Plan and memory of the same levels: those of the measured pass, where the steps kept others."""
    if line.get("predicted_mib") is None:
        return line
    passed = {"planned_mib": "predicted_mib", "peak_mib": "probed_mib", "kept": "probed_kept"}
    return line | {name: line[other] for name, other in passed.items()}


def key(line):
    return (*(line[name] for name in WHAT), line.get("cap_mib"), line.get("kept"))


def off(line):
    """Share by which the plan was over what was held; below 0: under."""
    return line["planned_mib"] / line["peak_mib"] - 1


def within(line):
    planned, held = 100 * line["planned_mib"], line["peak_mib"]
    return (100 - MOST_UNDER) * held <= planned <= (100 + MOST_OVER) * held


def named(line):
    dtype = "" if line["dtype"] == "bf16" else f" {line['dtype']}"
    several = "" if line["adapters"] == 1 else f", {line['adapters']} adapters"
    return f"{draw_train.title(line['model'], line['work'])}{dtype}{several}"


def counts_text(points):
    """How many points there are, the worst of them, and those outside of the aim."""
    if not points:
        return "Not measured yet."
    over, under = max(points, key=off), min(points, key=off)
    outside = [line for line in points if not within(line)]
    models = ", ".join(dict.fromkeys(drawing.SIZES.get(line["model"], line["model"]) for line in points))
    different = len({key(line) for line in points})
    said = (
        f"{len(points)} points ({models}), {different} of them different; the aim is {AIM_POINTS}."
        f" {len(points) - len(outside)} lie within -2 and +5 %. Furthest over:"
        f" {off(over):+.1%} ({named(over)}); furthest under: {off(under):+.1%} ({named(under)})."
    )
    return "\n".join([said, *(["", "Outside:", ""] if outside else []), *map(_outside, outside)])


def _outside(line):
    return f"- {named(line)}: {off(line):+.1%}"


def table(points):
    """A row a point; bold where it is outside of the aim."""
    rows = []
    for line in points:
        share = f"{off(line):+.1%}"
        rows.append(
            (
                draw_train.title(line["model"], line["work"]),
                line["dtype"],
                str(line["adapters"]),
                *drawing.cells(line, (("cap_mib", ","),)),
                line.get("kept") or drawing.NO_FIGURE,
                *drawing.cells(line, (("planned_mib", ","), ("peak_mib", ","))),
                share if within(line) else f"**{share}**",
                line["commit"][:8],
            )
        )
    return drawing.table(HEAD, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", default=FILES)
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="fill the parts of this page")
    options = parser.parse_args()
    points = read(options.results)
    parts = {"counts": counts_text(points), "table": table(points)}
    print("\n\n".join(parts.values()))
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(drawing.replace_parts(page, "memory", parts), encoding="utf-8")


if __name__ == "__main__":
    main()
