"""The command line: each bad input gives one clear message, exit code 2 and nothing half-written."""

import json
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.real_parts import real_model
from tests.study.studies import contents, reviews, rows_of, tiny_folder, write_rows, write_study

import tenbin.cli
import tenbin.demo
from tenbin.runs import StudyFolder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    """Nothing here may touch the network; what would be fetched is looked for in an empty hub cache."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def refused(cli, folder, *args, command="run"):
    """The message of a study that is refused; its folder must not come into being or change."""
    results = folder / "results"
    before = contents(results) if results.exists() else None
    code, _, err = cli(command, folder / "study.toml", "--offline", *args)
    assert code == 2, err
    assert (contents(results) if results.exists() else None) == before
    assert "tenbin: " in err
    return err


# A study from the command line


def test_run_and_run_again_and_report(cli, tmp_path):
    write_study(tmp_path, training={"learning_rates": []})
    code, out, _ = cli("run", tmp_path / "study.toml", "--offline")
    assert code == 0
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'results' / 'report.html'}"
    assert "tiny (base): accuracy" in out
    code, out, _ = cli("run", tmp_path / "study.toml", "--offline")
    assert code == 0
    assert "1 of 1 runs are done already" in out
    code, out, _ = cli("report", tmp_path / "results", "--language", "ja", "--xlsx", tmp_path / "t.xlsx")
    assert code == 0
    assert f"wrote {tmp_path / 't.xlsx'}" in out
    assert '<html lang="ja">' in (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    code, out, _ = cli("report", tmp_path / "results", "--layout", "paper")
    assert code == 0
    assert "| tiny |" in out


def test_inspect_and_plan_write_nothing(cli, tmp_path):
    write_study(tmp_path)
    before = set(contents(tmp_path))
    for command in ("inspect", "plan"):
        code, out, err = cli(command, tmp_path / "study.toml", "--offline")
        assert (code, err) == (0, "")
        assert "tiny" in out
    assert set(contents(tmp_path)) == before
    code, _, _ = cli("inspect", tmp_path / "study.toml", "--offline", "--json", tmp_path / "i.json")
    assert code == 0
    assert json.loads((tmp_path / "i.json").read_text())


# Bad data


def test_a_missing_column(cli, tmp_path):
    write_study(tmp_path, rows=[{"本文": "よい", "category": "良い"}])
    err = refused(cli, tmp_path)
    assert "reviews.jsonl" in err
    assert "text" in err
    assert "本文" in err  # what is there is named


def test_every_bad_row_of_every_file_at_once(cli, tmp_path):
    rows = reviews(10)
    rows[2]["text"] = "　"
    rows[5]["category"] = "普通"
    write_study(tmp_path, data={"categories": ["良い", "悪い"], "test": "test.jsonl", "split": None})
    write_rows(tmp_path / "reviews.jsonl", rows)
    write_rows(tmp_path / "test.jsonl", [{"text": "よい", "category": ""}])
    err = refused(cli, tmp_path)
    assert "tenbin: 3 problems" in err
    assert "reviews.jsonl:3 [text]: is empty" in err
    assert "reviews.jsonl:6 [category]: '普通' is not a category" in err
    assert "test.jsonl:1 [category]: is empty" in err
    assert err.count("-> ") == 3
    assert refused(cli, tmp_path, command="inspect") == err
    assert refused(cli, tmp_path, command="plan") == err


def test_an_answer_that_is_not_in_its_passage(cli, tmp_path):
    """In SQuAD's form, whose answers are copied from their passages; elsewhere they may be free."""

    def question(i, answer):
        return {"id": f"q{i}", "question": "どこ？", "answers": [{"text": answer, "answer_start": 0}]}

    paragraphs = [
        {"context": f"{i}番の棚にある。", "qas": [question(i, "屋根裏" if i == 3 else f"{i}番の棚")]}
        for i in range(9)
    ]
    write_study(tmp_path, "reading", data={"train": "squad.json"})
    whole = {"version": "1", "data": [{"title": "鍵", "paragraphs": paragraphs}]}
    (tmp_path / "squad.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    err = refused(cli, tmp_path)
    assert "tenbin: 1 problem\n" in err
    assert "squad.json" in err
    assert "[answer]" in err
    assert "屋根裏" in err

    rows = rows_of("reading", 10)
    rows[3]["answer"] = "屋根裏"
    write_study(tmp_path, "reading", rows=rows)
    code, out, _ = cli("inspect", tmp_path / "study.toml", "--offline")
    assert code == 0
    assert "not in its passage word for word (handbook.jsonl:4)" in " ".join(out.split())


def test_a_byte_that_is_no_text(cli, tmp_path):
    write_study(tmp_path, data={"encoding": "utf-8"})
    path = tmp_path / "reviews.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[4] = lines[4].replace("号室".encode(), b"\xff\xfe")
    path.write_bytes(b"\n".join(lines))
    err = refused(cli, tmp_path)
    assert "reviews.jsonl:5" in err
    assert "ff" in err.lower()


def test_rows_that_are_too_long_are_listed(cli, tmp_path):
    rows = reviews(30)
    for i in (3, 8):
        rows[i]["text"] += "長" * 200
    write_study(tmp_path, rows=rows)
    err = refused(cli, tmp_path)
    assert "tenbin: 2 problems" in err
    assert "reviews.jsonl:4" in err
    assert "reviews.jsonl:9" in err
    assert 'data.too_long to "cut" or "leave_out"' in err


def test_a_file_that_is_not_there(cli, tmp_path):
    write_study(tmp_path)
    (tmp_path / "reviews.jsonl").unlink()
    assert "reviews.jsonl" in refused(cli, tmp_path)


# Bad settings


def test_unknown_keys(cli, tmp_path):
    write_study(tmp_path, training={"epoch": 3}, modle=[])
    err = refused(cli, tmp_path)
    assert "study.toml: training.epoch: unknown key\n    -> did you mean `epochs`?" in err
    assert "study.toml: modle: unknown key\n    -> did you mean `model`?" in err


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (["training.epochs"], "'training.epochs' has no ="),
        (["=3", "x"], "'=3' has no ="),
        (["training.epochs=two"], "training.epochs: 'two' is not right"),
        (["training.epochs="], "training.epochs: '' is not right"),
        (["training.epoch=2"], "did you mean `epochs`?"),
        (["model.3.name=x"], "--set model.3.name: there is no number 3: it holds 1"),
        (["model.3=x"], "--set model.3: there is no number 3: it holds 1"),
        (["model.name=x"], "--set model.name: there is no number name"),
        (["name.x=1"], "--set name.x: `name` is a value and holds no `x`"),
        (["training.seeds.0.x=1"], "--set training.seeds.0.x: "),
        (["name.x=1", "task.y=2"], "tenbin: 2 problems"),
    ],
)
def test_set_is_as_strict_as_the_file(cli, tmp_path, pairs, found):
    write_study(tmp_path, training={"seeds": [0]})
    err = refused(cli, tmp_path, *(word for pair in pairs for word in ("--set", pair)), command="inspect")
    assert found in err


def test_set_reaches_into_lists(cli, tmp_path):
    write_study(tmp_path)
    code, out, _ = cli("plan", tmp_path / "study.toml", "--offline", "--set", "model.0.name=renamed")
    assert code == 0
    assert "renamed" in out


def test_a_study_file_that_is_none(cli, tmp_path):
    for name, content in (("a.toml", b"name = "), ("b.toml", b"\xff"), ("c.toml", b"")):
        (tmp_path / name).write_bytes(content)
        code, _, err = cli("run", tmp_path / name)
        assert code == 2
        assert name in err
    for path in (tmp_path, tmp_path / "nowhere.toml"):
        code, _, err = cli("run", path)
        assert code == 2
        assert str(path) in err


@pytest.mark.parametrize(
    "args", [(), ("plant",), ("run",), ("run", "a", "--ofline"), ("init", "--preset", "x")]
)
def test_usage_is_told(cli, args):
    code, out, err = cli(*args)
    assert code == 2
    assert "Usage" in out + err


# Bad models


def test_lora_targets_that_match_nothing(cli, tmp_path):
    write_study(tmp_path, lora={"targets": ["query", "v_proj", "mlp"]})
    err = refused(cli, tmp_path)
    assert "tenbin: 2 problems" in err
    assert "'query' names no linear map" in err
    assert "'mlp' names no linear map" in err
    assert "q_proj" in err  # what there is
    assert refused(cli, tmp_path, command="plan") == err
    code, _, _ = cli(
        "run",
        tmp_path / "study.toml",
        "--offline",
        "--set",
        'lora.targets=["v_proj"]',
        "--set",
        "training.epochs=1",
    )
    assert code == 0
    assert not [run for run in StudyFolder(tmp_path / "results").runs() if not run.done]


def test_models_that_are_not_to_be_had_offline(cli, tmp_path):
    write_study(tmp_path, model=[{"source": "nobody/nothing"}, {"source": "nobody/more"}])
    err = refused(cli, tmp_path)
    assert "tenbin: 2 problems" in err
    assert "nobody/nothing: it is not on this machine, and --offline forbids to fetch it" in err
    assert "hf download nobody/more" in err


def test_a_model_of_pickles(cli, tmp_path):
    write_study(tmp_path)
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    assert "pickle files, which can run code" in refused(cli, tmp_path)


def test_inspect_goes_on_without_a_model(cli, tmp_path):
    write_study(tmp_path, model=[{"source": "nobody/nothing"}])
    code, out, _ = cli("inspect", tmp_path / "study.toml", "--offline")
    assert code == 0
    assert "no lengths in tokens of nothing: nobody/nothing: it is not on this machine" in out


# The disk, Ctrl-C, folders


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 KiB, where one can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(cli, tmp_path, small_disk):
    from tenbin.train.checkpoint import read_checkpoint

    write_study(
        tmp_path,
        output=str(small_disk / "results"),
        training={"checkpoint_every_s": 0.0, "epochs": 4},
        evaluation={"base_model": False},
        generation={"max_new_tokens": 2},
    )
    # What grows: every rerun fails somewhere else until it has no room for anything.
    filler = small_disk / "filler"
    messages = []
    for left_kib in (150, 110, 60, 20, 4):
        free = free_kib(small_disk, filler)
        filler.write_bytes(bytes(1024 * max(0, free - left_kib)))
        code, _, err = cli("run", tmp_path / "study.toml", "--offline")
        assert code == 2
        assert "No space left on device" in err
        assert "free some space and run the same command again" in err
        messages.append(err)
        for folder in (small_disk / "results").glob("runs/*/checkpoint"):
            assert read_checkpoint(folder) is None or read_checkpoint(folder).state["step"] > 0
    assert any("checkpoint" in err for err in messages)
    filler.unlink()
    code, _, _ = cli("run", tmp_path / "study.toml", "--offline", "--set", "training.epochs=4")
    assert code == 0


def free_kib(folder, filler):
    filler.unlink(missing_ok=True)
    return shutil.disk_usage(folder).free // 1024


def test_a_full_disk_without_a_disk(cli, tmp_path, monkeypatch):
    """As above where nothing can be mounted: the second checkpoint finds no room."""
    from safetensors import SafetensorError

    from tenbin.train import checkpoint

    write_study(tmp_path, training={"checkpoint_every_s": 0.0}, evaluation={"base_model": False})
    save = checkpoint.save_file
    saved = []

    def full(tensors, path):
        if saved:
            path.write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        saved.append(path)
        save(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        code, _, err = cli("run", tmp_path / "study.toml", "--offline")
    assert code == 2
    assert "No space left on device" in err
    assert "the last checkpoint is whole" in err
    (run,) = StudyFolder(tmp_path / "results").runs()
    assert checkpoint.read_checkpoint(run.path / "checkpoint").state["step"] == 1
    assert [p.name for p in (run.path / "checkpoint").iterdir()] == ["step-0000001"]
    code, _, _ = cli("run", tmp_path / "study.toml", "--offline")
    assert code == 0


def test_a_folder_that_cannot_be_written(cli, tmp_path):
    write_study(tmp_path, output="reviews.jsonl/results")
    err = refused(cli, tmp_path)
    assert "reviews.jsonl/results" in err
    assert "name a folder that can be written" in err


def test_ctrl_c_anywhere_says_how_to_go_on(cli, tmp_path, monkeypatch):
    from tenbin.study import candidate

    write_study(tmp_path)

    def pressed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(candidate, "evaluate", pressed)
        code, _, err = cli("run", tmp_path / "study.toml", "--offline")
    assert code == 130
    assert "Run the same command again to go on." in err
    assert not [run for run in StudyFolder(tmp_path / "results").runs() if run.done]
    code, _, _ = cli("run", tmp_path / "study.toml", "--offline", "--set", "training.learning_rates=[]")
    assert code == 0


def test_init_writes_what_runs_and_nothing_over(cli, tmp_path):
    for preset in ("plain", "marc-ja", "jsquad", "xlsum", "question-bank"):
        folder = tmp_path / preset
        code, out, _ = cli("init", folder, "--preset", preset)
        assert code == 0
        assert f"wrote {folder / 'study.toml'}" in out
        tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
        code, _, err = cli("inspect", folder / "study.toml", "--offline")
        assert (code, err) == (0, "")
        before = contents(folder)
        code, _, err = cli("init", folder, "--preset", preset)
        assert code == 2
        assert "tenbin: 2 problems" in err
        assert "study.toml: is there already" in err
        assert contents(folder) == before


def test_init_into_a_file(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = cli("init", tmp_path / "file" / "new")
    assert code == 2
    assert "name a folder that can be written" in err


def test_report_on_what_is_no_study(cli, tmp_path):
    (tmp_path / "a").mkdir()
    for folder, found in (("a", "this is not a study folder"), ("b", "there is no such folder")):
        for layout in ("full", "paper"):
            code, _, err = cli("report", tmp_path / folder, "--layout", layout)
            assert code == 2
            assert found in err
    assert not (tmp_path / "b").exists()
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "the schema is None"),
        (b'{"schema": "metric-vectors/1", "metrics": {"x": {"cases": []}}}', "unknown metric 'x'"),
        (b'{"schema": "metric-vectors/1", "metrics": {"accuracy": {"cases": [3]}}}', "accuracy"),
        (None, "cannot be read"),
    ],
)
def test_verify_on_a_bad_file(cli, tmp_path, content, found):
    path = tmp_path / "v.json"
    if content is not None:
        path.write_bytes(content)
    code, _, err = cli("metrics", "verify", path)
    assert code == 2
    assert found in err


def test_verify_tells_a_difference_by_its_exit_code(cli, tmp_path):
    case = {"id": "1", "prediction": "a", "references": ["b"], "expected": {"accuracy": 1.0}}
    vectors = {"schema": "metric-vectors/1", "metrics": {"accuracy": {"cases": [case]}}}
    (tmp_path / "v.json").write_text(json.dumps(vectors))
    code, out, _ = cli("metrics", "verify", tmp_path / "v.json")
    assert code == 1
    assert "expected 1.0, found 0" in out


def test_metrics_list(cli):
    code, out, _ = cli("metrics", "list")
    assert code == 0
    assert "jsquad_f1" in out


def test_the_demo_takes_another_model(cli, tmp_path, monkeypatch):
    tiny_folder(tmp_path / "model", positions=2048)
    monkeypatch.setattr(
        tenbin.demo,
        "STUDY",
        {
            **tenbin.demo.STUDY,
            "training": {"learning_rates": [1e-3], "epochs": 1, "dtype": "fp32"},
            "generation": {"max_new_tokens": 1},
        },
    )
    code, out, _ = cli("demo", "--folder", tmp_path / "d", "--model", tmp_path / "model")
    assert code == 0
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'd' / 'results' / 'report.html'}"
    (tmp_path / "file").write_text("x")
    code, _, err = cli("demo", "--folder", tmp_path / "file", "--model", tmp_path / "model")
    assert code == 2
    assert "file" in err


def test_japanese_on_a_terminal_that_cannot_show_it(tmp_path):
    write_study(tmp_path, rows=[{"本文": "よい", "category": "良い"}])
    done = subprocess.run(
        [sys.executable, "-m", "tenbin.cli", "inspect", "study.toml", "--offline"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "\\u672c\\u6587" in done.stderr


@pytest.mark.model
@pytest.mark.slow
def test_a_short_study_of_the_real_model(cli, tmp_path):
    """24 of the shipped reviews, one epoch at one rate: a report, whatever the figures."""
    code, _, _ = cli("init", tmp_path)
    assert code == 0
    samples = Path(tenbin.cli.__file__).parent / "samples" / "reviews.jsonl"
    lines = samples.read_text(encoding="utf-8").splitlines(keepends=True)[:24]
    (tmp_path / "reviews.jsonl").write_text("".join(lines), encoding="utf-8")
    model = json.dumps([{"source": str(real_model().folder), "name": "gemma"}]).replace('":', '" =')
    code, out, err = cli(
        "run", tmp_path / "study.toml", "--offline", "--set", f"model={model}",
        "--set", "training.learning_rates=[2e-4]", "--set", "training.epochs=1",
    )  # fmt: skip
    assert code == 0, err
    report = Path(out.splitlines()[-1].removeprefix("Report: "))
    assert "gemma lr=2e-4" in report.read_text(encoding="utf-8")
    runs = StudyFolder(report.parent).runs()
    assert [run.done for run in runs] == [True, True]
    assert all(row.error is None for run in runs for row in run.read_rows("test"))
