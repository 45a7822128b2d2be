"""What `tenbin bench` shows of the lines it gets."""

import io
import json

from rich.console import Console

from tenbin import commands_bench
from tenbin.bench_generate_series import GenerateSeries
from tenbin.bench_series import Series

SERIES = Series(models=("tiny",), works=("1x4",))
FOUND = {
    "model": "7b",
    "work": "16x256",
    "dtype": "fp8",
    "adapters": 1,
    "tokens_per_s": 21_345.0,
    "examples_per_s": 83.381,
    "planned_mib": 31_000,
    "corrected_mib": 30_600,
    "peak_mib": 30_512,
    "mfu": 0.8214,
    "roof_tflops": 790.44,
}
NO_ROOM = {**dict.fromkeys(FOUND), "model": "7b", "work": "99x256", "dtype": "fp8", "adapters": 1}


def shown(monkeypatch, output, *, terminal):
    lines = [FOUND, {**NO_ROOM, "reason": "out of memory: [8 GiB] more"}]
    monkeypatch.setattr(commands_bench, "run_series", lambda series: iter(lines))
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    commands_bench.measure_training(SERIES, output, console=console)
    return file.getvalue()


def test_a_row_has_a_cell_for_every_column():
    cells = commands_bench.row(FOUND)
    figures = ["21,345", "83.38", "31,000", "30,600", "30,512", "0.821", "790.4"]
    assert cells == ["7b", "16x256", "fp8", "1", *figures]
    assert len(cells) == len(commands_bench.WHAT) + len(commands_bench.TRAIN_FIGURES)
    assert commands_bench.row(NO_ROOM)[4:] == ["-"] * 7


def test_lines_then_a_table_and_the_reasons_where_there_is_no_terminal(monkeypatch, tmp_path):
    path = tmp_path / "x.jsonl"
    said = shown(monkeypatch, path, terminal=False).splitlines()
    assert said[0].startswith("model 7b, work 16x256, type fp8, adapters 1, tokens /s 21,345, ")
    assert said[1].startswith("model 7b, work 99x256, ")
    assert said[-2:] == ["7b 99x256 fp8: out of memory: [8 GiB] more", f"added to {path}"]
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert written[0] == FOUND
    assert written[1]["reason"] == "out of memory: [8 GiB] more"


def test_a_growing_table_on_a_terminal(monkeypatch):
    said = shown(monkeypatch, None, terminal=True)
    assert "model 7b" not in said
    assert "21,345" in said
    assert "7b 99x256 fp8: out of memory: [8 GiB] more" in said
    assert "added to" not in said


def test_the_share_of_an_epoch_is_shown_only_where_it_was_asked_for(monkeypatch):
    line = FOUND | {"prompt_tokens_per_s": 123_456, "validation_share": 0.0712, "work": "jsquad-validation"}
    monkeypatch.setattr(commands_bench, "run_generation", lambda series: iter([line]))
    said = []
    for validation in (False, True):
        file = io.StringIO()
        series = GenerateSeries(models=("tiny",), validation=validation)
        commands_bench.measure_generation(series, None, console=Console(file=file, width=200))
        said.append(file.getvalue().splitlines()[0])
    assert "prompt tokens /s 123,456, planned MiB 31,000" in said[0]
    assert "of an epoch" not in said[0]
    assert said[1].endswith(", of an epoch 7.1%")
