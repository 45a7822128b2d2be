"""The table of planned against held memory, of made-up lines."""

import json
import subprocess
import sys

import pytest
from tests.bench.drawn_page import ROOT, written

from bench import draw_memory


def point(planned, held, *, work="1x4096", **more):
    line = {
        "bench": "memory",
        "system": "tenbin",
        "model": "7b",
        "work": work,
        "dtype": "bf16",
        "adapters": 1,
        "planned_mib": planned,
        "peak_mib": held,
        "allocated_mib": held,
        "kept": "0/0/0/0/32",
        "gpu": "A Made-up GPU",
        "commit": "0123456789abcdef",
        "cap_mib": 46_000,
    }
    return line | more


@pytest.mark.parametrize(
    ("planned", "held", "fine"),
    [(1050, 1000, True), (1051, 1000, False), (980, 1000, True), (979, 1000, False), (1000, 1000, True)],
)
def test_within_5_over_and_2_under(planned, held, fine):
    line = point(planned, held)
    assert draw_memory.within(line) == fine
    row = draw_memory.table([line]).splitlines()[2]
    assert row.count("**") == (0 if fine else 2)
    assert row.endswith(" 01234567 |")


def test_the_counts_name_the_worst_and_all_that_are_outside():
    points = [point(1040, 1000), point(970, 1000, work="1x512", dtype="fp8"), point(1100, 1000, adapters=4)]
    text = draw_memory.counts_text(points)
    assert text.startswith("3 points (7B), 3 of them different; the aim is 40. 1 lie within -2 and +5 %.")
    assert "Furthest over: +10.0% (7B 1 x 4,096, 4 adapters)" in text
    assert "furthest under: -3.0% (7B 1 x 512 fp8)" in text
    assert text.splitlines()[-2:] == ["- 7B 1 x 512 fp8: -3.0%", "- 7B 1 x 4,096, 4 adapters: +10.0%"]
    assert draw_memory.counts_text([]) == "Not measured yet."


def test_what_counts_as_a_point(tmp_path):
    """The last of what measures the same; nothing that did not fit, of a CPU, of others, of an older run."""
    lines = [
        point(1000, 900, bench="train", commit="old", work="1x64"),
        point(1000, 990, bench="train", commit="new"),
        point(None, None, bench="train", commit="new", work="1x99"),
        point(1000, 990, bench="train", commit="new", work="1x98", allocated_mib=None),
        {"bench": "train", "system": "peft", "model": "7b"},
        {"bench": "generate", "system": "tenbin"},
        point(1000, 995, bench="train", commit="new"),
    ]
    (found,) = draw_memory.read([written(tmp_path, lines)])
    assert (found["work"], found["peak_mib"]) == ("1x4096", 995)
    both = draw_memory.read([written(tmp_path, lines[1:])] * 2)
    assert len(both) == 2  # measured twice in two files: two points, one of them different
    assert ", 1 of them different;" in draw_memory.counts_text(both)


def test_a_plan_that_was_corrected_is_compared_with_the_pass_that_corrected_it(tmp_path):
    """The steps kept more than the plan had: neither its peak nor its levels are those of the plan."""
    passed = {"predicted_mib": 1010, "probed_mib": 1000, "probed_kept": "0/0/0/3/29"}
    line = point(1005, 1100, corrected_mib=1090, **passed)
    (found,) = draw_memory.read([written(tmp_path, [line])])
    assert draw_memory.off(found) == pytest.approx(0.01)
    assert "| 0/0/0/3/29 | 1,010 | 1,000 | +1.0% |" in draw_memory.table([found])
    unprobed = point(1005, 1000, predicted_mib=None, probed_mib=None, probed_kept=None)
    assert draw_memory.read([written(tmp_path, [unprobed])]) == [unprobed]


def test_a_line_without_a_figure_is_refused(tmp_path):
    path = written(tmp_path, [{"bench": "train", "system": "tenbin", "model": "7b"}])
    with pytest.raises(SystemExit, match=r"run\.jsonl:1: work, dtype, adapters, planned_mib, peak_mib"):
        draw_memory.read([path])


def test_the_page_is_what_the_script_writes(tmp_path):
    """Its parts are filled from the results that are there, and filled again they stay as they are."""
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs/performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, ROOT / "bench/draw_memory.py", "--write", page]
    subprocess.run(command, check=True, capture_output=True)
    assert page.read_text(encoding="utf-8") == (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    path = written(tmp_path, [point(1000, 990)])
    subprocess.run([*command[:2], path, *command[2:]], check=True, capture_output=True)
    text = page.read_text(encoding="utf-8")
    assert "1 points (7B)" in text
    assert "| 7B 1 x 4,096 | bf16 | 1 | 46,000 | 0/0/0/0/32 | 1,000 | 990 | +1.0% | 01234567 |" in text
    assert json.dumps(point(1000, 990)) in path.read_text(encoding="utf-8")
