"""Run folders: ids, events, rows, and files that are whole or not there."""

import errno
import json
import os
from dataclasses import replace

import pytest

from tenbin.errors import DataError, StorageError
from tenbin.runs import (
    EpochRecord,
    Run,
    RunResult,
    RunSpec,
    StudyFolder,
    write_json,
    write_text,
)
from tenbin.types import Estimate, EvalResult, EvalRow, MetricSummary

SPEC = RunSpec(
    kind="train",
    model="m",
    source="org/m",
    model_fingerprint="0123",
    task="classification",
    learning_rate=2e-4,
    seed=0,
    settings={"template": "評価：$text", "data": {"train": "a", "test": "b"}, "dtype": "bf16"},
)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / SPEC.id, SPEC)
    run.start({"python": "3"})
    return run


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "eval"},
        {"model": "n"},
        {"source": "./m"},
        {"model_fingerprint": "0124"},
        {"task": "reading"},
        {"learning_rate": 2.0000001e-4},  # shown as 0.0002, too
        {"seed": 1},
        {"settings": {**SPEC.settings, "template": "評価: $text"}},
        {"settings": {**SPEC.settings, "data": {"train": "a", "test": "c"}}},
        {"settings": {**SPEC.settings, "dtype": None}},
        {"settings": {**SPEC.settings, "more": 0}},
    ],
)
def test_the_id_differs_as_soon_as_anything_differs(change):
    assert replace(SPEC, **change).id != SPEC.id


def test_the_id_is_that_of_the_contents_not_of_their_order():
    assert replace(SPEC, settings=dict(reversed(SPEC.settings.items()))).id == SPEC.id
    assert SPEC.id.startswith("m-lr0.0002-seed0-")
    assert replace(SPEC, source="undecodable \udcff name").id


def test_specs_come_back_from_their_folder(tmp_path):
    study = StudyFolder(tmp_path)
    study.run(SPEC).start({})
    (found,) = study.runs()
    assert (found.spec, found.spec.id, found.path) == (SPEC, SPEC.id, tmp_path / "runs" / SPEC.id)
    assert not found.done


def test_events_come_back_in_order_also_after_a_crash_in_one(run):
    run.log("step", step=1, loss=0.5, note="\u2028改行")
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    run.log("step", step=2, loss=0.25)
    path.write_bytes(path.read_bytes()[: len(whole) + 17])  # cut in the middle of the second line
    assert [e["step"] for e in run.events()] == [1]
    run.log("resumed", step=1)
    run.log("step", step=2, loss=0.25)
    assert [(e["event"], e["step"]) for e in run.events()] == [("step", 1), ("resumed", 1), ("step", 2)]
    assert run.events()[0]["note"] == "\u2028改行"


@pytest.mark.parametrize("cut", range(1, 12))
def test_events_cut_anywhere_lose_nothing_else(run, cut):
    run.log("a")
    path = run.path / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"time": 1.0'[:cut])
    run.log("b")
    assert [e["event"] for e in run.events() if isinstance(e, dict)] == ["a", "b"]


def test_rows_survive_whatever_a_model_says(run):
    said = [
        "\u2028\u2029\x85\x0b\x0c\x1c",
        "\x00",
        "\ud800 alone \udfff",
        "a\r\nb\n",
        "",
        "\\u2028 \\",
        "😀",
        '"',
    ]
    rows = tuple(
        EvalRow(
            id=str(i),
            prompt=text,
            completion=text,
            stop_reason="stop",
            answer=text or None,
            references=(text, "x"),
            scores={"accuracy": None if i == 3 else 0.5},
            group=text,
        )
        for i, text in enumerate(said)
    )
    run.write_rows("test", rows)
    assert run.read_rows("test") == rows
    assert len((run.path / "predictions" / "test.jsonl").read_bytes().splitlines()) == len(rows)
    assert run.read_rows("validation") == ()


def evaluation():
    metrics = (
        MetricSummary(
            metric="a", name="A", definition="d", estimate=Estimate(0.5, 0.1, 0.9, 0.95, 4, "wilson")
        ),
        MetricSummary(metric="b", name="B", definition="d", estimate=None, reason="undefined"),
    )
    return EvalResult(
        task="classification",
        model_id="m",
        split="test",
        dataset="d",
        template="t",
        metrics=metrics,
        num_examples=4,
        num_errors=0,
        num_unparsed=1,
    )


def test_a_result_marks_the_run_as_done_and_comes_back(run):
    (run.path / "checkpoint" / "step-0000001").mkdir(parents=True)
    epoch = EpochRecord(epoch=1, step=3, train_loss=0.1, validation=evaluation(), seconds=1.0)
    result = RunResult(
        spec=SPEC,
        epochs=(epoch, replace(epoch, epoch=2, validation=None)),
        best_epoch=1,
        results={"test": evaluation()},
        train_tokens=10,
    )
    assert not run.done
    run.finish(result)
    assert run.done
    assert run.result() == result
    assert not (run.path / "checkpoint").exists()


def test_what_a_killed_process_left_half_written_goes(run):
    (run.path / ".result.json.1.tmp").write_text("{")
    (run.path / ".adapter-x").mkdir()
    (run.path / ".adapter-x" / "adapter_model.safetensors").write_bytes(b"")
    run.log("step")
    run.start({})
    assert {p.name for p in run.path.iterdir()} == {
        "run.json",
        "environment.json",
        "events.jsonl",
        "predictions",
    }


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch, fails):
    path = tmp_path / "new" / "a.json"
    write_text(path, "古い\n")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if fails == "write":
            text, error = "\ud800", UnicodeEncodeError  # no UTF-8: a mistake of ours
        elif fails == "fsync":
            patched.setattr(os, "fsync", full)
            text, error = "新しい\n", StorageError
        else:
            patched.setattr("pathlib.Path.replace", interrupted)
            text, error = "新しい\n", KeyboardInterrupt
        with pytest.raises(error):
            write_text(path, text)
    assert path.read_text(encoding="utf-8") == "古い\n"
    assert list(path.parent.iterdir()) == [path]
    write_text(path, "新しい\n")
    assert path.read_text(encoding="utf-8") == "新しい\n"


def test_a_full_disk_and_a_closed_folder_are_said(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="free some space and run"):
            write_text(tmp_path / "a", "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="name a folder that can be written"):
        write_text(tmp_path / "file" / "a", "x")


def test_no_number_that_json_lacks(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("result.json", "{", "not JSON"),
        ("result.json", "[]", "not written by this version"),
        ("result.json", '{"spec": {}}', "not written by this version"),
        ("run.json", '{"kind": "train"}', "not written by this version"),
        ("run.json", "\ufeff{}", "not JSON"),
    ],
)
def test_files_that_somebody_changed_are_named(tmp_path, name, text, found):
    study = StudyFolder(tmp_path)
    run = study.run(SPEC)
    run.start({})
    (run.path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=found) as caught:
        [r.result() for r in study.runs()]
    assert str(run.path / name) in caught.value.problems[0].where


def test_files_of_the_study(tmp_path):
    study = StudyFolder(tmp_path)
    assert study.read("plan.json") is None
    study.write("plan.json", {"text": "\ud83d 日本"})
    assert study.read("plan.json") == {"text": "\ud83d 日本"}
    assert json.loads((tmp_path / "plan.json").read_bytes()) == {"text": "\ud83d 日本"}
