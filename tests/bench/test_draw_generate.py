"""The performance page's part about generation, of made-up lines."""

import re

import pytest
from tests.bench.drawn_page import ROOT, drawn_page, written

from bench import draw_generate, drawing


def line(system, work, rate, *, model="7b", dtype="bf16", variant=None, **more):
    found = {
        "bench": "generate",
        "system": system,
        "model": model,
        "work": work,
        "dtype": dtype,
        "adapters": 0,
        "num_examples": 4442,
        "examples_per_s": rate,
        "tokens_per_s": None if rate is None else rate * 5,
        "prompt_tokens_per_s": None if rate is None else rate * 150,
        "planned_mib": 45_900,
        "peak_mib": 45_000,
        "mfu": None if rate is None else 0.5,
        "roof_tflops": 790.4,
        "gpu": "A Made-up GPU",
        "versions": {"torch": "0.0"},
        "commit": "abc",
        "cap_mib": 46_000,
    } | more
    return found | ({"variant": variant} if variant else {})


def share(dtype, part, **more):
    found = {"adapters": 1, "validation_share": part, "validation_s": 8.0, "epoch_s": 8.0 / part}
    found |= {"held_out": 4442, "epoch_examples": 62_000}
    return line("tenbin", "jsquad-validation", 555.0, dtype=dtype, **found | more)


def whole_run():
    """Every aim met, beside transformers at several batch sizes, its continuous batching, and no vLLM."""
    lines = [line("tenbin", "jsquad", rate, dtype=d) for d, rate in (("bf16", 550.0), ("fp8", 880.0))]
    lines += [line("tenbin", "256x512+64", 40.0)]
    for size, rate in ((16, 83.0), (64, 141.0), (128, 130.0)):
        found = {"batch_size": size, "counted_examples": 900, "planned_mib": None}
        lines.append(line("transformers", "jsquad", rate, variant="transformers", **found))
    lines.append(lines[-2] | {"best_of": [16, 64, 128]})
    lines.append(line("transformers", "jsquad", 110.0, variant="continuous"))
    lines.append(line("vllm", "jsquad", None, variant="vllm", peak_mib=None, reason="vllm is not installed"))
    return [*lines, share("bf16", 0.07), share("fp8", 0.06)]


@pytest.fixture
def read(tmp_path):
    return lambda lines: draw_generate.read(written(tmp_path, lines))


def test_the_table_names_the_best_peer_and_what_is_met(read):
    table = draw_generate.main_table(read(whole_run())).splitlines()
    peer = "141 (transformers, generate, batches of 64)"
    assert table[2] == f"| 7B JSQuAD, answers/s | {peer} | **550** | 500 | **880** | 800 | 3.90, 6.24 |"
    assert table[3] == "| 7B 256 x 512 + 64, answers/s | not measured | 40 | - | not measured | - | -, - |"
    what = "| 7B JSQuAD validation of 4,442 beside an epoch of 62,000 |  |"
    assert table[4:] == [f"{what} **7.0%** | 10% |  |  |  |", f"{what}  |  | **6.0%** | 10% |  |"]
    assert len({row.count("|") for row in table}) == 1


def test_the_best_of_several_batch_sizes_is_shown_once(read):
    lines = read(whole_run())
    assert [one["batch_size"] for one in lines if "batch_size" in one] == [16, 64, 128]
    assert len([one for one in lines if one.get("variant") == "transformers"]) == 3


def test_all_aims_met_and_each_that_is_not(read):
    assert draw_generate.aims_text(read(whole_run())) == "All 4 aims are met."
    slow = [one for one in whole_run() if (one["dtype"], one["work"]) != ("fp8", "jsquad")]
    slow += [line("tenbin", "jsquad", 499.0), share("bf16", 0.123, epoch_examples=3998, held_out=444)]
    said = draw_generate.aims_text(read(slow)).splitlines()
    assert said == [
        "1 of 4 aims are met. Not met:",
        "",
        "- 7B JSQuAD in bf16, answers/s: 499; the aim was 500.",
        "- 7B JSQuAD validation in bf16, share of an epoch's training: 12.3%; the aim was 10.0%.",
        "- 7B JSQuAD in fp8, answers/s: not measured; the aim was 800.",
    ]


def test_an_adapter_in_use_is_a_line_and_no_rival(read):
    lines = read([*whole_run(), line("tenbin", "jsquad", 999.0, adapters=1)])
    assert draw_generate.best(lines, "7b", "jsquad", ("bf16",))["examples_per_s"] == 550
    assert "| 7B JSQuAD | tenbin, bf16 | 1 | - | 999.0 |" in draw_generate.every_line(lines)


def test_other_types_of_weights_are_no_fp8(read):
    lines = read([line("tenbin", "jsquad", 9000.0, dtype=dtype) for dtype in ("nf4", "fp8-both")])
    assert [drawing.kind(one) for one in lines] == ["nf4", "fp8"]
    assert draw_generate.best(lines, "7b", "jsquad", ("fp8",))["dtype"] == "fp8-both"
    rows = draw_generate.every_line(lines)
    assert "| tenbin, nf4 |" in rows
    assert "| tenbin, fp8 (both orders) |" in rows


def test_another_model_meets_no_aim(read):
    lines = read([line("tenbin", "jsquad", 9000.0, model="tiny"), share("bf16", 0.01, model="tiny")])
    assert draw_generate.aims_text(lines).startswith("0 of 4 aims are met.")


def test_every_line_with_what_is_to_be_known_of_it(read):
    rows = draw_generate.every_line(read([*whole_run(), line("tenbin", "jsquad", 99.0, graphs=False)]))
    assert "| 7B JSQuAD | transformers, generate | 0 | 16 | 83.0 | 415 | 12,450 | - |" in rows
    assert rows.count("900 of 4,442 prompts, at random") == 3
    assert "| - | - | - | 45,900 | - | - | vllm is not installed |" in rows
    assert "7.0% of an epoch: 8.00 s beside 114.3 s |" in rows
    assert rows.count("no CUDA graphs") == 1
    assert rows.count("| 550.0 |") == 1
    assert len({row.count("|") for row in rows.splitlines()}) == 1


def test_a_later_line_takes_the_place_of_an_earlier_one(read, capsys):
    lines = read([line("tenbin", "jsquad", 1.0), line("tenbin", "jsquad", 2.0)])
    assert [one["examples_per_s"] for one in lines] == [2.0]
    assert "1 lines were measured again later" in capsys.readouterr().err


def test_the_page_is_filled_again_and_again(tmp_path):
    page, svg = drawn_page("draw_generate.py", tmp_path, whole_run())
    begin, end = page.index("<!-- generation:run -->"), page.index("## Memory: the plan against")
    part = page[begin:end]
    assert "Not measured yet" not in part
    assert "A Made-up GPU; hard cap 46,000 MiB" in part
    assert "All 4 aims are met." in part
    for word in ("tenbin, bf16", "transformers, continuous batching", "7B JSQuAD", "answers/s"):
        assert word in svg
    assert "vLLM" not in svg
    assert len(re.findall("#d1495b", svg)) == 2, "a mark for each aim"


def test_the_page_has_a_place_for_every_part():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert re.findall("<!-- generation:([a-z]+) -->", page) == ["run", "table", "aims", "lines"]


def test_without_a_figure_nothing_is_drawn(read):
    lines = read([line("tenbin", "jsquad", None, mfu=None, reason="out of memory")])
    with pytest.raises(SystemExit, match="no line has a figure"):
        draw_generate.chart(lines)


def test_a_line_that_lacks_a_figure_is_refused(read):
    broken = line("tenbin", "jsquad", 1.0)
    del broken["examples_per_s"]
    with pytest.raises(SystemExit, match=r"run\.jsonl:1: examples_per_s missing"):
        read([broken])
