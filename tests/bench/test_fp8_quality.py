"""The comparison of frozen types, on a tiny model and made-up rows: what a line says, how lines compare."""

import json
import sys
from functools import partial

import pytest
from bench.quality_data import drawn, squad
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
    command += ["--test", test, "--output", output, "--steps", "3", "--batch-size", "4", "--asked", "5"]
    command += options
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    output.write_text("", encoding="utf-8")
    capsys.readouterr()
    fp8_quality.main()
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    said = capsys.readouterr().out.splitlines()
    assert [json.loads(text) for text in said if text.startswith("{")] == lines
    return lines, [text for text in said if not text.startswith("{")]


def of(lines, kind):
    return [line for line in lines if line["bench"] == kind]


def test_each_type_is_trained_and_asked(told):
    bases = [part for base in ("bf16", "fp8", "nf4") for part in ("--base", base)]
    lines, said = told("watchers", watchers_file, *bases)
    runs = of(lines, "base-quality")
    assert [line["base"] for line in runs] == ["bf16", "fp8", "nf4"]
    assert len({line["first_loss"] for line in runs}) == 3  # the weights differ
    assert len({line["untrained_loss"] for line in runs}) == 3
    for line in runs:
        assert line["n"] == 5
        assert 0 <= line["interval"][0] <= line["score"] <= line["interval"][1] <= 1
        assert line["held_out_loss"] > 0
        assert line["left_out"] == [0, 0]
    fp8, nf4 = of(lines, "base-quality-pair")
    assert (fp8["differs"], fp8["base"], fp8["against"], nf4["base"]) == ("base", "fp8", "bf16", "nf4")
    for key, run_key in (("loss_ratio", "loss_last_20"), ("held_out_ratio", "held_out_loss")):
        value, low, high = fp8[key]
        assert value == pytest.approx(runs[1][run_key] / runs[0][run_key])
        assert low <= value <= high
    assert said[0].startswith("base fp8 against bf16 (loss on response, grouped, seed 0): loss of the last")


def test_runs_of_one_seed_begin_alike_whatever_was_trained_before(told):
    both, _ = told("watchers", watchers_file, "--base", "bf16", "--base", "fp8", "--seed", "1", "--seed", "0")
    alone, _ = told("watchers", watchers_file, "--base", "bf16")
    last = [line for line in of(both, "base-quality") if (line["base"], line["seed"]) == ("bf16", 0)]
    first = of(alone, "base-quality")
    for key in ("first_loss", "loss_last_20", "held_out_loss", "score"):
        assert last[0][key] == first[-1][key], key


def test_orders_seeds_and_what_is_learnt_differ(told):
    options = ["--base", "bf16", "--order", "grouped", "--order", "shuffled", "--seed", "0", "--seed", "1"]
    lines, said = told("squad", squad_file, *options, "--loss-on", "all", "--loss-on", "response")
    runs = of(lines, "base-quality")
    assert [(line["seed"], line["loss_on"], line["order"]) for line in runs] == [
        (seed, loss_on, order)
        for seed in (0, 1)
        for loss_on in ("all", "response")
        for order in ("grouped", "shuffled")
    ]
    assert len({(line["first_loss"], line["loss_last_20"]) for line in runs}) == 8
    assert len({line["held_out_targets"] for line in runs}) == 2  # every token, and those of answers
    assert [line["differs"] for line in of(lines, "base-quality-pair")] == ["order"] * 4 + ["seed"] * 4
    order, _, chance, _ = of(lines, "base-quality-summary")
    assert (order["value"], order["pairs"], order["loss_ratio"]) == ("shuffled", 2, None)  # other batches
    assert (chance["differs"], chance["pairs"]) == ("seed", 2)
    assert said[-1].startswith("seed another, loss on response, mean of 2: held-out loss ")


def test_without_a_step_only_rounding_differs(told):
    lines, _ = told("watchers", watchers_file, "--steps", "0", "--loss-on", "all", "--held-out", "4")
    bf16, fp8 = of(lines, "base-quality")
    assert bf16["first_loss"] is bf16["loss_last_20"] is None
    assert bf16["held_out"] == 4
    assert bf16["held_out_targets"] > 4 * 5
    (pair,) = of(lines, "base-quality-pair")
    assert pair["loss_ratio"] is None
    assert pair["held_out_ratio"][0] == pytest.approx(fp8["held_out_loss"] / bf16["held_out_loss"])
    assert pair["held_out_ratio"][0] != 1


def test_no_run_is_begun_that_would_not_end_in_time(told):
    lines, said = told("watchers", watchers_file, "--time-limit", "0.001")
    assert lines == []
    assert said == [
        "left out, the time limit of 0.001 s passed: bf16 grouped loss on response seed 0;"
        " fp8 grouped loss on response seed 0"
    ]


def test_what_does_not_fit_is_left_out_and_counted(tmp_path):
    examples = squad(squad_file(tmp_path / "a.json", 6))

    def encode(example):
        return "x" * (9 if example.id.endswith("-1") else 3)

    kept = drawn(examples, 100, encode, 5)
    assert (len(kept.examples), kept.left_out) == (12, 6)
    groups = [e.group for e in kept.examples]
    assert groups == kept.groups
    assert all(a == b for a, b in zip(groups[::2], groups[1::2], strict=True))  # they stay together
    assert drawn(examples, 4, encode, 9).examples == drawn(examples, 5, encode, 9).examples[:4]
    assert kept.first(4).examples == kept.examples[:4]
