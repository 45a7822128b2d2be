"""A study folder that was damaged, or that another process works in, is refused by name."""

import pytest
from tests.study.studies import run, write_study

from tenbin.errors import DataError, StorageError
from tenbin.report import write_report
from tenbin.runs import StudyFolder, alone


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    result, _ = run(write_study(tmp_path_factory.mktemp("study")), **{"training.learning_rates": []})
    return StudyFolder(result.folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: lines[1:], "rows of predictions, where the result is of"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "not a whole row"),
    ],
)
def test_predictions_that_are_not_whole(finished, damage, words):
    path = next(finished.path.glob("runs/*/predictions/test.jsonl"))
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(damage(text.rstrip("\n").split("\n"))) + "\n", encoding="utf-8")
    try:
        with pytest.raises(DataError, match=words):
            write_report(finished)
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_broken_study_file(finished):
    path = finished.path / "study.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text("[[", encoding="utf-8")
    try:
        with pytest.raises(DataError, match="not TOML"):
            write_report(finished)
    finally:
        path.write_text(text, encoding="utf-8")


def test_two_at_once(tmp_path):
    study = write_study(tmp_path)
    result, _ = run(study, **{"training.learning_rates": []})
    with alone(result.folder), pytest.raises(StorageError, match="another `tenbin run`"):
        run(study, **{"training.learning_rates": []})
    run(study, **{"training.learning_rates": []})


def test_one_category_is_nothing_to_choose_from(tmp_path):
    rows = [{"id": str(i), "text": f"部屋 {i}", "category": "良い"} for i in range(30)]
    with pytest.raises(DataError, match=r"only one category to choose from \(良い\)"):
        run(write_study(tmp_path, rows=rows))
    assert not list(tmp_path.glob("runs/*"))
