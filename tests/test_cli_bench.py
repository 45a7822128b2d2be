"""`tenbin bench train` and `tenbin bench generate` on the command line."""

import json

import pytest


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # no table is cut
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_table_and_lines(cli, tmp_path):
    path = tmp_path / "out.jsonl"
    works = ("--work", "2x16", "--work", "1x32")
    code, out, err = cli("bench", "train", "--model", "tiny", *works, "--steps", "3", "--output", path)
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["work"] for line in lines] == ["2x16", "1x32"]
    said = out.splitlines()
    assert said[0].startswith("model tiny, work 2x16, type bf16, adapters 1, tokens /s ")
    assert f"{lines[0]['tokens_per_s']:,}" in said[0]
    assert "planned MiB" in out
    assert said[-1] == f"added to {path}"
    cli("bench", "train", "--model", "tiny", "--work", "1x8", "--steps", "3", "--output", path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3, "lines are added, never written over"


def test_problems_are_said_before_anything_is_measured(cli, tmp_path):
    path = tmp_path / "out.jsonl"
    code, out, err = cli("bench", "train", "--model", "8b", "--work", "x", "--steps", "1", "--output", path)
    assert (code, out) == (2, "")
    assert err.startswith("tenbin: 3 problems")
    assert not path.exists()


def test_generation_beside_training(cli, tmp_path):
    lengths, path = tmp_path / "lengths.json", tmp_path / "out.jsonl"
    lengths.write_text(json.dumps([[20, [[5, 2], [6, 3]]]] * 5), encoding="utf-8")
    asked = ("--model", "tiny", "--work", "3x8+2", "--work", "jsquad", "--lengths", lengths, "--runs", "1")
    share = ("--validation-share", "--epoch-examples", "50", "--batch", "5", "--steps", "3")
    code, out, err = cli("bench", "generate", *asked, *share, "--output", path)
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["work"] for line in lines] == ["3x8+2", "jsquad", "jsquad-validation"]
    assert [line["adapters"] for line in lines] == [0, 0, 1]
    said = out.splitlines()
    assert said[0].startswith("model tiny, work 3x8+2, type bf16, adapters 0, examples /s ")
    assert said[0].endswith(", of an epoch -")
    assert said[2].endswith(f", of an epoch {lines[2]['validation_share']:.1%}")


def test_options_of_generation_reach_it(cli, monkeypatch):
    seen = []
    monkeypatch.setattr("tenbin.commands_bench.measure_generation", lambda *a, **k: seen.append(a))
    options = ("--questions", "7", "--vram-mib", "9000", "--runs", "2", "--adapters", "1", "--no-graphs")
    more = ("--most-tokens", "64", "--most-rows", "3", "--dtype", "fp8", "--commit", "abc")
    assert cli("bench", "generate", "--model", "7b", "--work", "1x2+3", *options, *more)[0] == 0
    ((series, output),) = seen
    assert output is None
    assert (series.questions, series.vram_mib, series.dtypes, series.commit) == (7, 9000, ("fp8",), "abc")
    how = series.how
    assert (how.runs, how.adapters, how.most_tokens, how.most_rows, how.graphs) == (2, 1, 64, 3, False)
    assert (series.validation, series.epoch_examples) == (False, None)
