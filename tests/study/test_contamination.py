"""Contamination hints of a small study: once, kept, and in the report."""

import pytest
from tests.study.studies import Told, run, write_study
from typer.testing import CliRunner

from tenbin.cli import app
from tenbin.errors import DataError
from tenbin.report.contamination import read_hints
from tenbin.runs import StudyFolder
from tenbin.study.contamination import hint_file

ROWS = [
    {
        "id": str(i),
        "text": f"問{i}: 鍵はどこか。",
        "choices": f"A. {i}番の棚\nB. 机\nC. 受付\nD. 倉庫",
        "category": "ABCD"[i % 4],
    }
    for i in range(30)
]
PROMPT = {"template": "$text\n$choices\n答え: $response"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = write_study(
        tmp_path_factory.mktemp("hints"),
        rows=ROWS,
        training={"learning_rates": []},
        prompt=PROMPT,
        data={"columns": {"choices": "choices"}},
        contamination={"questions": 4, "orders": 3},
    )
    run(path)
    return path


def test_a_study_with_the_section_has_hints_in_its_report(study):
    settings, hints = read_hints(StudyFolder(study.parent / "results"))
    (hint,) = hints.values()
    assert settings["orders"] == 3
    assert (len(hint.rows), hint.num_errors) == (4, 0)
    assert all(len(row.others) == 3 for row in hint.rows)
    report = (study.parent / "results" / "report.html").read_text(encoding="utf-8")
    assert 'id="contamination"' in report
    assert "a hint, not proof" in report


def test_hints_are_made_once(study):
    folder = StudyFolder(study.parent / "results")
    before = read_hints(folder)
    bars = []

    class Watched(Told):
        def bar(self, label, total, unit):
            bars.append(label)
            return super().bar(label, total, unit)

    hint_file(study, cache_dir=study.parent / "cache", offline=True, screen=Watched())
    assert bars == []
    assert read_hints(folder) == before
    changed = {"contamination.orders": 2}
    hint_file(study, changed, cache_dir=study.parent / "cache", offline=True, screen=Watched())
    assert bars == ["tiny (base): orders of choices"]


def test_the_command_says_it_in_words(study):
    done = CliRunner().invoke(
        app, ["contamination", str(study), "--offline", "--set", "contamination.orders=2"]
    )
    assert done.exit_code == 0, done.output
    assert "likeliest of 3 in" in done.output
    assert "33.3% by chance" in done.output


def test_data_without_choices_are_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(DataError, match="three or more different `choices`"):
        run(write_study(tmp_path, contamination={}))
    assert not (tmp_path / "results").exists()


def test_a_study_that_was_not_run_is_refused(tmp_path):
    path = write_study(
        tmp_path, rows=ROWS, prompt=PROMPT, data={"columns": {"choices": "choices"}}, contamination={}
    )
    with pytest.raises(DataError, match="no base model was evaluated"):
        hint_file(path, offline=True)
