"""Bad rows: refused, or left out, counted and listed."""

import json
import sys

import pytest

from tenbin import cli
from tenbin.errors import DataError
from tenbin.study.prepare import prepare, write_prepared
from tenbin.study.screen import SilentScreen

ROWS = "".join(f"{i},部屋が広くて快適{i},{'良い' if i % 2 else '悪い'}\n" for i in range(40))
BAD = "90,,良い\n91,静か,\n3,二度目の番号,良い\n"


class Told(SilentScreen):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def study(tmp_path):
    (tmp_path / "rows.csv").write_text("id,text,category\n" + ROWS + BAD, encoding="utf-8")
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "s"\ntask = "classification"\n[data]\ntrain = "rows.csv"\n'
        'split = { validation = 0.2, test = 0.2 }\n[[model]]\nsource = "nowhere"\n',
        encoding="utf-8",
    )
    return path


def test_they_are_refused_all_at_once(study):
    with pytest.raises(DataError) as error:
        prepare(study)
    assert len(error.value.problems) == 3


def test_they_are_counted_and_listed(study):
    prepared = prepare(study, {"data.skip_bad_rows": True})
    screen = Told()
    write_prepared(prepared, screen)
    path = prepared.folder.path / "bad_rows.jsonl"
    listed = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(row["where"], row["field"]) for row in listed] == [
        ("rows.csv:42", "text"),
        ("rows.csv:43", "category"),
        ("rows.csv:44", "id"),
    ]
    assert all(row["found"] and row["remedy"] for row in listed)
    assert screen.lines == [
        "3 rows with errors are left out (data.skip_bad_rows)",
        f"they are listed in {path}",
    ]
    assert sum(len(d) for d in prepared.datasets().values()) == 40


def test_the_list_goes_with_the_errors(study):
    write_prepared(prepare(study, {"data.skip_bad_rows": True}))
    (study.parent / "rows.csv").write_text("id,text,category\n" + ROWS, encoding="utf-8")
    prepared = prepare(study)
    screen = Told()
    write_prepared(prepared, screen)
    assert not (prepared.folder.path / "bad_rows.jsonl").exists()
    assert screen.lines == []


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tenbin", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_inspect_with_the_option_writes_page_and_figures(study, monkeypatch, capsys):
    page, figures = study.parent / "page.html", study.parent / "figures.json"
    assert command(monkeypatch, "inspect", study, "--offline") == 2
    assert "3 problems" in capsys.readouterr().err
    words = ("inspect", study, "--offline", "--skip-bad-rows", "--html", page, "--json", figures)
    assert command(monkeypatch, *words) == 0
    note = "3 rows with errors left out by data.skip_bad_rows"
    assert note in " ".join(capsys.readouterr().out.split())
    assert note in page.read_text(encoding="utf-8")
    assert "<h1>s: the data</h1>" in page.read_text(encoding="utf-8")
    assert any(note in text for text in json.loads(figures.read_text(encoding="utf-8"))["notes"])


@pytest.mark.parametrize("name", ["run", "plan"])
def test_run_and_plan_take_the_option(study, name, monkeypatch, capsys):
    """The rows are no error any more: what is left to refuse is the model, which is nowhere."""
    assert command(monkeypatch, name, study, "--offline", "--skip-bad-rows") == 2
    said = capsys.readouterr()
    assert "1 problem" in said.err
    assert "nowhere" in said.err
    if name == "plan":
        assert "3 rows with errors are left out" in said.out
