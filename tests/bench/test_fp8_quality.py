"""The comparison of frozen types, on a tiny model and made-up rows: what a line says, how lines compare."""

import json
import sys
from functools import partial

import pytest
from tests.study.studies import tiny_folder

from bench import fp8_quality


def watchers_file(path, count):
    rows = [
        {
            "id": f"{path.stem}-{i}",
            "景気の現状判断": "◎○▲×□"[i % 5],
            "追加説明及び具体的状況の説明": f"{'客が増えた' if i % 5 < 2 else '客が減った'}、{i}件",
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def squad_file(path, count):
    paragraphs = [
        {
            "context": f"第{i}倉庫の鍵は{i}番の棚にある。",
            "qas": [
                {"id": f"{path.stem}-{i}-{q}", "question": f"鍵は？{q}", "answers": [{"text": f"{i}番の棚"}]}
                for q in range(3)
            ],
        }
        for i in range(count)
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return path


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Runs the script: (lines, what was printed after them)."""
    return partial(_told, tmp_path, monkeypatch, capsys)


def _told(tmp_path, monkeypatch, capsys, data, make, *options):
    folder = tiny_folder(tmp_path / "model")
    train, test = make(tmp_path / "train.json", 30), make(tmp_path / "test.json", 10)
    output = tmp_path / "out.jsonl"
    command = ["fp8_quality.py", folder, "--data", data, "--train", train]
    command += [
        "--test",
        test,
        "--output",
        output,
        "--steps",
        "3",
        "--batch-size",
        "4",
        "--asked",
        "5",
        *options,
    ]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    capsys.readouterr()
    fp8_quality.main()
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    said = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in said[: len(lines)]] == lines
    return lines, said[len(lines) :]


def test_each_type_is_trained_and_asked(told):
    bases = [part for base in ("bf16", "fp8", "nf4") for part in ("--base", base)]
    lines, said = told("watchers", watchers_file, *bases)
    assert [line["base"] for line in lines] == ["bf16", "fp8", "nf4"]
    assert len({line["first_loss"] for line in lines}) == 3  # the weights differ
    for line in lines:
        assert line["n"] == 5
        assert 0 <= line["interval"][0] <= line["score"] <= line["interval"][1] <= 1
        assert line["held_out_loss"] > 0
        assert line["left_out"] == [0, 0]
    assert len(said) == 2
    assert said[0].startswith("fp8 grouped seed 0 against bf16 grouped seed 0: untrained loss ")


def test_orders_and_seeds_differ(told):
    options = ["--base", "bf16", "--order", "grouped", "--order", "shuffled", "--seed", "0", "--seed", "1"]
    lines, _ = told("squad", squad_file, *options)
    assert [(line["seed"], line["order"]) for line in lines] == [
        (0, "grouped"),
        (0, "shuffled"),
        (1, "grouped"),
        (1, "shuffled"),
    ]
    assert len({(line["first_loss"], line["loss_last_20"]) for line in lines}) == 4


def test_what_does_not_fit_is_left_out_and_counted(tmp_path):
    examples = fp8_quality.squad(squad_file(tmp_path / "a.json", 6))
    kept, left_out = fp8_quality.drawn(examples, 100, lambda e: not e.id.endswith("-1"))
    assert (len(kept), left_out) == (12, 6)
    groups = [e.group for e in kept]
    assert all(a == b for a, b in zip(groups[::2], groups[1::2], strict=True))  # they stay together
    assert (
        fp8_quality.drawn(examples, 4, lambda e: True)[0]
        == fp8_quality.drawn(examples, 5, lambda e: True)[0][:4]
    )


@pytest.mark.parametrize(("score", "word"), [(0.9, "inside"), (0.7, "OUTSIDE")])
def test_the_comparison_says_whether_the_score_lies_in_the_interval(score, word):
    first = {"base": "bf16", "order": "grouped", "seed": 0, "loss_last_20": 0.2, "held_out_loss": 0.5}
    first |= {"metric": "accuracy", "score": 0.88, "interval": [0.8, 0.95]}
    said = fp8_quality.compared(first, first | {"base": "fp8", "loss_last_20": 0.21, "score": score})
    assert "loss 0.2100 against 0.2000 (+5.00%), held-out loss 0.5000 against 0.5000 (+0.00%)" in said
    assert said.endswith(f"{word} 0.8000 to 0.9500")
