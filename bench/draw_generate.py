"""Draws and tells what was measured of generation, tenbin's lines beside those of other tools.

    python bench/draw_generate.py [bench/results/generate-h200.jsonl] \\
        [--image docs/images/generation-h200.svg] [--write docs/performance.md]

Reads the lines of `tenbin bench generate` and `bench/peers/generate.py` of one run, draws answers a second by
work with a mark where each aim is, and prints the table in Markdown. With --write the page's parts between
`<!-- generation:NAME -->` and `<!-- /generation:NAME -->` are replaced: no number there is typed by hand. The
aims are those of the project's plan for one NVIDIA H200 under 46,000 MiB.
"""

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as a script it finds only what stands beside it
from bench import drawing

AIMS = {("7b", "jsquad"): (500, 800)}
"""(bf16, fp8): answers a second."""
VALIDATION = "jsquad-validation"
AIM_SHARE = 0.1
"""Of validating an epoch over training it, at most, in either type."""
SHARE_MODEL = "7b"
SYSTEMS = {
    "transformers": ("transformers, generate", "#9aa5b1"),
    "continuous": ("transformers, continuous batching", "#5b6b7b"),
    "vllm": ("vLLM", "#e08214"),
    **drawing.OURS,
}
"""Name and colour by what `drawing.kind` gives, in the order of the bars."""
PEERS = ("transformers", "continuous", "vllm")
NEEDED = ("system", "model", "work", "dtype", "examples_per_s", "tokens_per_s", "peak_mib")


def read(path):
    """The lines about generation, the newest of each; the best of several batch sizes not a second time."""
    found = drawing.read(path, "generate", NEEDED, key)
    return [line for line in found if "best_of" not in line]


def key(line):
    more = (line.get(name) for name in ("batch_size", "epoch_examples", "graphs"))
    what = (drawing.kind(line), line["dtype"], line["model"], line["work"], line.get("adapters", 0))
    return *what, "best_of" in line, *more


def rate(line):
    return line["examples_per_s"]


def best(lines, model, work, kinds):
    """The fastest line of these kinds without an adapter; None where none was measured."""
    return drawing.best(lines, model, work, kinds, rate, adapters=0)


def works(lines):
    """All but validation."""
    return [place for place in drawing.places(lines, AIMS) if place[1] != VALIDATION]


def title(model, work):
    name = drawing.SIZES.get(model, model)
    if made := re.fullmatch(r"(\d+)x(\d+)\+(\d+)", work):
        count, length, new = (f"{int(n):,}" for n in made.groups())
        return f"{name} {count} x {length} + {new}"
    if made := re.fullmatch(r"fewshot-(\d+)", work):
        return f"{name} JSQuAD behind {int(made[1]):,}"
    return f"{name} {work.replace('jsquad', 'JSQuAD').replace('-', ' ')}"


def main_table(lines):
    """Work, best peer, ours and the aims; then what validation costs."""
    rows = []
    for model, work in works(lines):
        peer = best(lines, model, work, PEERS)
        ours = [best(lines, model, work, (k,)) for k in ("bf16", "fp8")]
        cells = [f"{title(model, work)}, answers/s", figure(peer, named=True)]
        for line, aim in zip(ours, AIMS.get((model, work), (None, None)), strict=True):
            met = line is not None and aim is not None and rate(line) >= aim
            cells += [figure(line, met=met), drawing.NO_FIGURE if aim is None else f"{aim:,}"]
        rows.append([*cells, ", ".join(drawing.ratio(line, peer, rate) for line in ours)])
    for line in shares(lines):
        number = f"{line['epoch_examples']:,}"
        what = f"{title(line['model'], VALIDATION)} of {line['held_out']:,} beside an epoch of {number}"
        text = f"{line['validation_share']:.1%}"
        text = f"**{text}**" if line["validation_share"] <= AIM_SHARE else text
        aim = f"{AIM_SHARE:.0%}"
        ours = [text, aim, "", ""] if drawing.kind(line) == "bf16" else ["", "", text, aim]
        rows.append([what, "", *ours, ""])
    return drawing.table(drawing.MAIN_HEAD, rows)


def shares(lines):
    """The lines that say what validation costs."""
    return [line for line in lines if line.get("validation_share") is not None]


def figure(line, *, named=False, met=False):
    """`141 (transformers, generate, batches of 128)`; bold where its aim is met."""
    if line is None:
        return "not measured"
    notes = [drawing.name(line, SYSTEMS)] if named else []
    if "batch_size" in line:
        notes.append(f"batches of {line['batch_size']}")
    value = f"{rate(line):,.0f}"
    return (f"**{value}**" if met else value) + (f" ({', '.join(notes)})" if notes else "")


def aims_text(lines):
    """How many aims are met, and one by one those that are not. Of several shares the largest counts."""
    checks = []
    for number, dtype in enumerate(("bf16", "fp8")):
        for (model, work), aims in AIMS.items():
            line = best(lines, model, work, (dtype,))
            name = f"{title(model, work)} in {dtype}, answers/s"
            checks.append((name, None if line is None else rate(line), aims[number], ",.0f", False))
        found = [
            line["validation_share"]
            for line in shares(lines)
            if drawing.kind(line) == dtype and line["model"] == SHARE_MODEL
        ]
        name = f"{title(SHARE_MODEL, VALIDATION)} in {dtype}, share of an epoch's training"
        checks.append((name, max(found, default=None), AIM_SHARE, ".1%", True))
    return drawing.aims_text(checks)


def every_line(lines):
    """All that was measured, and what was not with its reason."""
    head = ("work", "system", "adapters", "batch", "answers/s", "new tokens/s", "prompt tokens/s")
    head += ("planned MiB", "peak MiB", "MFU", "note")
    shown = (
        ("batch_size", "d"),
        ("examples_per_s", ",.1f"),
        ("tokens_per_s", ",.0f"),
        ("prompt_tokens_per_s", ",.0f"),
        ("planned_mib", ",.0f"),
        ("peak_mib", ",.0f"),
        ("mfu", ".3f"),
    )
    order = {place: i for i, place in enumerate(drawing.places(lines, AIMS))}

    def place(line):
        where, number = order[line["model"], line["work"]], drawing.number(line, SYSTEMS)
        return where, number, line.get("adapters", 0), line.get("batch_size") or 0

    rows = []
    for line in sorted(lines, key=place):
        name = drawing.name(line, SYSTEMS)
        what = [title(line["model"], line["work"]), name, str(line.get("adapters", 0))]
        rows.append([*what, *drawing.cells(line, shown), "; ".join(filter(None, remarks(line)))])
    return drawing.table(head, rows)


def remarks(line):
    """What is to be known of a line."""
    yield drawing.remark(line)
    counted, whole = line.get("counted_examples"), line.get("num_examples")
    if counted is not None and counted < whole:
        yield f"{counted:,} of {whole:,} prompts, at random"
    if line["system"] == "tenbin" and line.get("gpu") and line.get("graphs") is False:
        yield "no CUDA graphs"
    if line.get("validation_share") is not None:
        share, seconds, epoch = line["validation_share"], line["validation_s"], line["epoch_s"]
        yield f"{share:.1%} of an epoch: {seconds:,.2f} s beside {epoch:,.1f} s"
    if line.get("first_validation_share") is not None:
        share, seconds = line["first_validation_share"], line["first_validation_s"]
        yield f"the first time {share:.1%}: {seconds:,.2f} s, with what is compiled then"


def chart(lines):
    """Answers a second; validation is no bar."""
    rows = []
    for model, work in works(lines):
        for name, (label, _) in SYSTEMS.items():
            line = best(lines, model, work, (name,))
            aim = drawing.aim(AIMS, model, work, name)
            if line is not None:
                rows.append({"work": title(model, work), "system": label, "value": rate(line), "aim": aim})
    return drawing.chart([("answers/s", rows)], list(SYSTEMS.values()))


def main():
    drawing.main(
        __doc__,
        "generation",
        "generation",
        ("generate-h200.jsonl", "generation-h200.svg"),
        read,
        {"table": main_table, "aims": aims_text, "lines": every_line},
        chart,
        "Answers a second by work and system, with the aims as red marks",
    )


if __name__ == "__main__":
    main()
