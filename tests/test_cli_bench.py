"""`tenbin bench train` on the command line."""

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
