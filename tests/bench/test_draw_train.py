"""The performance page's tables and chart, of made-up lines."""

import re

import pytest
from tests.bench.drawn_page import ROOT, drawn_page, written

from bench import draw_train, drawing

PLACES = list(draw_train.AIMS)


def line(system, model, work, rate, *, dtype="bf16", variant=None, **more):
    questions = work == "jsquad"
    found = {
        "bench": "train",
        "system": system,
        "model": model,
        "work": work,
        "dtype": dtype,
        "adapters": 1,
        "tokens_per_s": None if rate is None else rate * (68 if questions else 1),
        "examples_per_s": None if rate is None else (rate if questions else rate / 4096),
        "planned_mib": 30_000,
        "peak_mib": 29_000,
        "mfu": 1.0,
        "roof_tflops": 790.4,
        "gpu": "A Made-up GPU",
        "versions": {"torch": "0.0"},
        "commit": "abc",
        "cap_mib": 46_000,
    } | more
    return found | ({"variant": variant} if variant else {})


def whole_run():
    """Every aim met by a tenth, the peers at half of it."""
    lines = []
    for (model, work), aims in draw_train.AIMS.items():
        for dtype, aim in zip(("bf16", "fp8"), aims, strict=True):
            lines.append(line("tenbin", model, work, aim * 1.1, dtype=dtype))
        lines.append(line("unsloth", model, work, aims[0] / 2, variant="unsloth_plain"))
        slow = 20 if work == "jsquad" else aims[0] / 4
        lines.append(line("peft", model, work, slow, variant="peft_ckpt"))
    return lines


def test_the_table_names_the_best_peer_and_what_is_met():
    table = draw_train.main_table(whole_run()).splitlines()
    peer, ours = "9,500 (Unsloth, MFU 1.00)", "**20,900** (MFU 1.00)"
    assert table[2].startswith(f"| 7B 1 x 1,700, tokens/s | {peer} | {ours} | 19,000 |")
    assert table[2].endswith("| 2.20, 2.89 |")
    (questions,) = [row for row in table if "JSQuAD" in row]
    assert "| 160 (Unsloth, MFU 1.00) | **352** (MFU 1.00) | 320 |" in questions
    assert table[-1].startswith("| the same, times PEFT with checkpointing and padding | 20 (PEFT, ")
    assert "| **17.60** | 12 | **24.75** | 17 |" in table[-1]
    assert len({row.count("|") for row in table}) == 1


def test_all_aims_met_and_each_that_is_not():
    lines = whole_run()
    assert draw_train.aims_text(lines) == "All 16 aims are met."
    lines = [one for one in lines if not (one["work"] == "1x32768" and one["dtype"] == "fp8")]
    lines.append(line("tenbin", "7b", "1x4096", 15_000, mfu=0.5))  # beside a faster one
    assert "- 7B 1 x 32,768 in fp8: not measured; the aim was 11,000." in draw_train.aims_text(lines)
    slow = [one | {"mfu": 0.6} if one["work"] == "1x4096" else one for one in lines]
    said = draw_train.aims_text(slow).splitlines()
    assert said[0] == "13 of 16 aims are met. Not met:"
    assert "- 7B 1 x 4,096 in bf16, MFU: 0.60; the aim was 0.75." in said


def test_what_was_not_measured_has_no_figure_but_its_reason():
    lines = [line("liger", "7b", "1x4096", None, variant="liger", mfu=None, reason="out of memory")]
    assert draw_train.best(lines, "7b", "1x4096", ("liger",)) is None
    last = draw_train.every_line(lines).splitlines()[-1]
    assert last.endswith("| - | - | 30,000 | 29,000 | - | - | out of memory |")
    assert "not measured" in draw_train.main_table(lines)


def test_a_later_line_takes_the_place_of_an_earlier_one(tmp_path, capsys):
    lines = [line("tenbin", "7b", "1x4096", rate) for rate in (1, 2)]
    other = {"bench": "memory", "system": "tenbin"}
    found = draw_train.read(written(tmp_path, [*lines, other]))
    assert [one["tokens_per_s"] for one in found] == [2]
    assert "1 lines were measured again later" in capsys.readouterr().err


PROBED = {"predicted_mib": 29_900, "probed_mib": 29_000, "corrected_mib": 45_540, "peak_mib": 46_000}


def test_planned_is_what_the_peak_compares_with():
    """The corrected plan where a pass corrected it, of lines from before then the plan."""
    lines = [line("tenbin", "7b", "1x4096", 2, **PROBED), line("tenbin", "7b", "1x512", 3)]
    lines.append(line("tenbin", "7b", "16x256", 4, **dict.fromkeys(PROBED)))
    corrected, failed, earlier = draw_train.every_line(lines).splitlines()[2:]
    assert "| 45,540 | 46,000 | +3.1% | 1.000 |" in corrected
    assert "| 30,000 | 29,000 | - | 1.000 |" in earlier
    assert "| 30,000 | - | - | 1.000 |" in failed


def test_how_far_the_plan_was_is_told_of_one_pass():
    lines = [line("tenbin", "7b", "1x4096", 2, **PROBED), line("unsloth", "7b", "1x512", 3)]
    lines.append(line("tenbin", "7b", "1x512", 2, **(PROBED | {"predicted_mib": 28_710})))
    said = draw_train.plan_text(lines)
    assert said.startswith("2 lines: the plan against the measured pass -1.0% to +3.1%;")
    assert said.endswith(" the corrected plan against the peak of the steps -1.0% to -1.0%.")
    assert draw_train.plan_text(lines[1:2]) == "Not measured yet."


def test_several_adapters_are_no_rival_of_one():
    lines = [line("tenbin", "7b", "1x4096", 5, adapters=4), line("tenbin", "7b", "1x4096", 3)]
    assert draw_train.best(lines, "7b", "1x4096", ("bf16",))["tokens_per_s"] == 3
    assert len(draw_train.every_line(lines).splitlines()) == 4


def test_the_page_is_filled_again_and_again(tmp_path):
    page, svg = drawn_page("draw_train.py", tmp_path, whole_run())
    assert "A Made-up GPU; hard cap 46,000 MiB" in page
    begin = page.index("<!-- training:run -->")
    assert "Not measured yet" not in page[begin : page.index("## Training on a CPU")]
    for word in ("tenbin, bf16", "Unsloth", "7B JSQuAD", "examples/s", "tokens/s"):
        assert word in svg
    assert len(re.findall("#d1495b", svg)) == 2 * len(PLACES), "a mark for each aim"


def test_the_page_has_a_place_for_every_part():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="training:other"):
        drawing.replace_parts(page, "training", {"other": ""})
    names = re.findall("<!-- training:([a-z]+) -->", page)
    assert names == ["run", "table", "aims", "lines", "plan"]


def test_a_line_that_lacks_a_figure_is_refused(tmp_path):
    broken = line("tenbin", "7b", "1x4096", 1)
    del broken["tokens_per_s"]
    with pytest.raises(SystemExit, match=r"run\.jsonl:1: tokens_per_s missing"):
        draw_train.read(written(tmp_path, [broken]))
