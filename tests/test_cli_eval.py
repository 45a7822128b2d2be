"""`tenbin eval` and its neighbours on the command line: options, messages, exit codes."""

import pytest
from tests.study.chat_server import chat_server
from tests.study.studies import contents, reviews, tiny_folder, write_rows, write_study
from tests.study.test_hosted import hosted_study, right


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    """No table is cut."""
    monkeypatch.setenv("COLUMNS", "160")


SMALL = ("--set", "training.dtype=fp32", "--set", "generation.max_new_tokens=6", "--offline")


def test_one_model_on_one_file_then_a_report(cli, tmp_path):
    rows = [{"本文": row["text"], "評価": row["category"]} for row in reviews(12)]
    write_rows(tmp_path / "r.jsonl", rows)
    model = tiny_folder(tmp_path / "model")
    call = (
        *("eval", model, tmp_path / "r.jsonl", "--task", "classification", "--name", "small"),
        *("--column", "text=本文", "--column", "category=評価", "--limit", "8", "--output", tmp_path / "out"),
    )
    code, out, err = cli(*call, *SMALL)
    assert (code, err) == (0, "")
    assert "accuracy (%)" in out
    assert "8 examples: 0 errors (no score)" in out
    assert out.splitlines()[-1] == f"next: tenbin report {tmp_path / 'out'}"
    code, out, _ = cli(*call, *SMALL)
    assert "1 of 1 runs are done already" in out
    code, out, _ = cli("report", tmp_path / "out")
    assert out.strip() == f"wrote {tmp_path / 'out' / 'report.html'} and report.md"


def test_reports_of_several_folders(cli, tmp_path):
    write_rows(tmp_path / "r.jsonl", reviews(12))
    for seed, name in enumerate(("one", "two")):
        tiny_folder(tmp_path / name, seed=seed)
        data = ("--task", "classification", "--output", tmp_path / f"out-{name}")
        assert cli("eval", tmp_path / name, tmp_path / "r.jsonl", *data, *SMALL)[0] == 0
    code, _, _ = cli("report", tmp_path / "out-one", tmp_path / "out-two")
    assert code == 0
    text = (tmp_path / "out-one" / "report.md").read_text(encoding="utf-8")
    assert "one (base)" in text
    assert "two (base)" in text
    code, _, err = cli("report", tmp_path / "out-one", tmp_path / "nowhere", tmp_path)
    assert code == 2
    assert "2 problems" in err


def test_a_hosted_model_with_a_limit_and_repeats(cli, tmp_path):
    with chat_server(right) as (url, requests):
        path = hosted_study(tmp_path, url, "good")
        code, out, err = cli("eval", path, "--max-cost", "5 USD", "--repeats", "2")
        assert (code, err) == (0, "")
        assert len(requests) == 36
        assert "asked 2 times" in out
        code, _, err = cli("eval", path, "--max-cost", "0.0001 USD", "--repeats", "3")
        assert code == 2
        assert "max_cost" in err
        code, out, _ = cli("plan", path, "--set", "model.0.hosted.repeats=3")
        assert code == 0
        assert "cost, at most" in out
    code, _, err = cli("run", path, "--offline", "--set", "model.0.hosted.repeats=3")
    assert code == 2
    assert "--offline forbids it" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-cost", "a lot"), 'write a sum above 0 as "5 USD"'),
        (("--column", "text"), "has no ="),
        (("--task", "translation"), "'translation' is not right"),
        (("--repeats", "2"), "the model is local"),
        (("--set", "data.limt=3"), "did you mean `limit`?"),
    ],
)
def test_bad_options_are_named(cli, tmp_path, options, message):
    write_rows(tmp_path / "r.jsonl", reviews(12))
    tiny_folder(tmp_path / "model")
    before = set(contents(tmp_path))
    args = ("eval", tmp_path / "model", tmp_path / "r.jsonl", "--output", tmp_path / "out")
    task = () if "--task" in options else ("--task", "classification")
    code, _, err = cli(*args, *task, *options, "--offline")
    assert code == 2
    assert message in " ".join(err.split())
    assert set(contents(tmp_path)) == before


def test_a_plan_of_both_kinds(cli, tmp_path):
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good", local=True)
    code, out, _ = cli("plan", path)
    assert code == 0
    assert "Memory by cause" in out
    assert "Calls still to be made" in out


def test_version_and_next_steps(cli, tmp_path):
    code, out, _ = cli("--version")
    assert (code, out.split()[0]) == (0, "tenbin")
    code, out, _ = cli("init", tmp_path / "new")
    assert out.splitlines()[-1].endswith(f"tenbin plan {tmp_path / 'new' / 'study.toml'}")


def test_a_study_names_its_model(cli, tmp_path):
    path = write_study(tmp_path)
    code, out, _ = cli("eval", path, "--model", "tiny", "--offline")
    assert code == 0
    assert "tiny (base)" in out
    code, _, err = cli("eval", path, "--model", "teny", "--offline")
    assert code == 2
    assert "no model 'teny'" in err
