"""The whole way of a question bank: answers, sheets for two raters, grades back, agreement, report."""

import json
import random

import openpyxl
import pytest
from tests.grading.banks import answer_with, answered, sample_rows, study_file
from tests.tasks.conformance import Fake
from typer.testing import CliRunner

from tenbin.cli import app
from tenbin.errors import ConfigError, DataError
from tenbin.grading.store import read_grades
from tenbin.report import article_tables, build_report, to_html, write_report, write_workbook
from tenbin.study.prepare import prepare, write_prepared

SKILL = {"gpt-x": 0.8, "kasuga-13b": 0.45, "tanuki-1.8b": 0.1}


def tenbin(*arguments):
    """Run a command: what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def answers_of(rows, name, skill):
    """Answers of a fake model: the reference at its skill, a part of it, another choice, or nothing."""
    said = []
    for row in rows:
        draw = random.Random(f"{name}{row['id']}")
        if draw.random() < skill:
            said.append(f"答えは「{row['reference'][0]}」です。")
        elif row["choices"]:
            said.append(draw.choice(row["choices"]))
        else:
            said.append(draw.choice([row["reference"][0][:6], "わかりません。", ""]))
    return said


def grade_sheet(path, judge):
    """Fill in a sheet as a rater would: `judge(row) -> grade` or None."""
    book = openpyxl.load_workbook(path)
    sheet = book["採点"]
    columns = {cell.value: cell.column for cell in sheet[1]}
    for number in range(2, sheet.max_row + 1):
        row = {name: sheet.cell(number, column).value for name, column in columns.items()}
        sheet.cell(number, columns["採点"]).value = judge(number, row)
    book.save(path)


def strict(number, row):
    reference, answer = str(row["模範解答"]), str(row["解答"])
    return 1 if reference in answer else 0.5 if answer and answer in reference else 0


def lenient(number, row):
    """Half a point more on every fifth, written as an Excel user would."""
    grade = strict(number, row)
    grade = min(1, grade + 0.5) if number % 5 == 0 else grade
    return {0: "０", 0.5: "０．５", 1: "○"}[grade]


@pytest.fixture
def sample(tmp_path):
    """The sample bank answered by three models, in a study folder."""
    rows = sample_rows()
    return answered(tmp_path, rows, {name: answers_of(rows, name, skill) for name, skill in SKILL.items()})


def test_the_sample_bank_from_answers_to_the_report(sample):
    folder = sample.path
    said = tenbin("grade", "export", folder, "--rater", "佐藤", "--rater", "鈴木")
    sheets = [folder / "grading" / f"{rater}.xlsx" for rater in ("佐藤", "鈴木")]
    assert all(sheet.exists() for sheet in sheets)
    assert "answers to 6 questions" in said
    before = tenbin("report", folder, "--layout", "article")
    assert "| gpt-x (base) | 2 / 2 |" in before  # two of four knowledge questions are graded by rule
    grade_sheet(sheets[0], strict)
    grade_sheet(sheets[1], lenient)
    said = tenbin("grade", "import", folder)
    assert "佐藤 and 鈴木: " in said
    assert "weighted kappa 0." in said
    assert "Krippendorff's alpha 0." in said
    assert "not graded yet" not in said
    people = [grade for grade in read_grades(folder) if grade.kind == "person"]
    assert {g.grader for g in people} == {"佐藤", "鈴木"}
    kept = json.loads((folder / "grading" / "agreement.json").read_text(encoding="utf-8"))
    assert kept["pairs"][0]["kappa"]["interval"]["level"] == 0.95
    assert kept["num_disagreements"] == len(kept["disagreements"]) > 0
    assert kept["settings"]["disagreement"] == "mean"
    tested = json.loads((folder / "grading" / "points.json").read_text(encoding="utf-8"))
    assert [part["category"] for part in tested["systems"]["gpt-x (base)"]][:2] == [None, "knowledge"]
    assert len(tested["pairs"]) == 3
    assert all(pair["p"] <= pair["p_holm"] <= 1 and "sign-flip" in pair["method"] for pair in tested["pairs"])
    check_the_table(folder, sample)
    check_the_report(folder, sample)


def check_the_table(folder, study):
    (table,) = article_tables(study)
    assert table.columns[:6] == (
        "Model",
        "knowledge (4)",
        "mathematics (3)",
        "reading (6)",
        "Points",
        "Points (%)",
    )
    assert [row[0].text for row in table.rows] == [f"{name} (base)" for name in SKILL]
    for row in table.rows:
        earned = [float(cell.text.split(" / ")[0]) for cell in row[1:5]]
        assert [cell.text.split(" / ")[1] for cell in row[1:5]] == ["4", "3", "6", "13"]
        assert sum(earned[:3]) == pytest.approx(earned[3])
        assert row[5].number == pytest.approx(100 * earned[3] / 13)
        assert [cell.text for cell in row[7:]] == ["13", "0", "0"]
    shares = [row[5].number for row in table.rows]
    assert shares == sorted(shares, reverse=True)
    assert tenbin("report", folder, "--layout", "article").startswith("### Points by category")
    for run in study.runs():
        whole = run.result().results["test"].points[0]
        assert (whole.num_graded, whole.num_ungraded) == (13, 0)
        assert whole.by["rule"] == 7


def check_the_report(folder, study):
    for language, words in (
        ("en", ["Points by category", "Who graded", "people: 佐藤, 鈴木", "Agreement of the raters"]),
        ("ja", ["分類ごとの得点", "採点者（解答の数）", "人: 佐藤, 鈴木", "採点者の一致", "平均を用いる"]),
    ):
        text = write_report(study, language=language).read_text(encoding="utf-8")
        markdown = (folder / "report.md").read_text(encoding="utf-8")
        for word in words:
            assert word in text, word
            assert word in markdown, word
        assert "sign-flip permutation" in text
    write_workbook(build_report(study), folder / "tables.xlsx")
    assert {"points", "points-by-category", "graders", "agreement"} <= set(
        openpyxl.load_workbook(folder / "tables.xlsx").sheetnames
    )


def test_nothing_is_graded_yet(tmp_path):
    rows = [{**row, "grade": "people", "unit": ""} for row in sample_rows()]
    study = answered(tmp_path, rows, {"alpha": ["x"] * 13})
    report = build_report(study)
    assert report.advice.headline == "Nothing can be recommended yet."
    assert report.advice.sentences[0].startswith("No answer is graded yet")
    html = to_html(report)
    assert "13 answers are not graded yet" in html
    row = report.paper[0].rows[0]
    assert [cell.text for cell in row[1:6]] == ["–"] * 5
    assert [cell.number for cell in row[4:6]] == [None, None]


def test_importing_again_changes_nothing_and_changed_grades_keep_their_history(sample):
    folder = sample.path
    tenbin("grade", "export", folder, "--rater", "佐藤")
    sheet = folder / "grading" / "佐藤.xlsx"
    grade_sheet(sheet, strict)
    tenbin("grade", "import", folder, sheet)
    first = read_grades(folder)
    assert "0 new grades, 0 changed" in tenbin("grade", "import", folder, sheet)
    assert read_grades(folder) == first
    grade_sheet(sheet, lambda number, row: 1)
    assert "0 new grades" in tenbin("grade", "import", folder, sheet)
    changed = read_grades(folder)
    assert changed[: len(first)] == first
    assert {g.grade for g in changed[len(first) :]} == {1.0}
    whole = [run.result().results["test"].points[0] for run in sample.runs()]
    assert all(part.by["people 佐藤"] == 6 for part in whole)


def test_a_half_graded_sheet_counts_as_far_as_it_goes(sample):
    folder = sample.path
    tenbin("grade", "export", folder, "--rater", "佐藤")
    grade_sheet(folder / "grading" / "佐藤.xlsx", lambda number, row: 1 if number < 5 else None)
    said = tenbin("grade", "import", folder)
    assert "3 of " in said
    assert "not graded, and not counted: J5, J6" in said
    assert "answers are not graded yet" in said
    later = tenbin("grade", "export", folder, "--rater", "佐藤")
    assert "3 graded by this rater before are left out" in later


def test_one_bad_cell_keeps_every_sheet_out(sample):
    folder = sample.path
    tenbin("grade", "export", folder, "--rater", "佐藤", "--rater", "鈴木")
    grade_sheet(folder / "grading" / "佐藤.xlsx", strict)
    grade_sheet(folder / "grading" / "鈴木.xlsx", lambda number, row: 3 if number < 4 else "？")
    rows = openpyxl.load_workbook(folder / "grading" / "鈴木.xlsx")["採点"].max_row - 1
    with pytest.raises(DataError) as caught:
        tenbin("grade", "import", folder)
    assert len(caught.value.problems) == rows
    assert caught.value.problems[0].where == "鈴木.xlsx[採点]!J2"
    assert not [grade for grade in read_grades(folder) if grade.kind == "person"]


def test_an_adjudicator_settles_the_disagreements(sample):
    folder = sample.path
    tenbin("grade", "export", folder, "--rater", "佐藤", "--rater", "鈴木")
    grade_sheet(folder / "grading" / "佐藤.xlsx", strict)
    grade_sheet(folder / "grading" / "鈴木.xlsx", lenient)
    said = tenbin("grade", "import", folder, "--adjudicator", "部長")
    assert "counted by adjudicator (部長)" in said
    assert "not graded yet" in said
    tenbin("grade", "export", folder, "--rater", "部長", "--disputed")
    differ = openpyxl.load_workbook(folder / "grading" / "disagreements.xlsx").worksheets[0]
    disputed = openpyxl.load_workbook(folder / "grading" / "部長.xlsx")["採点"]
    codes = {row[-1].value for row in differ.iter_rows(min_row=2)}
    assert {row[-1].value for row in disputed.iter_rows(min_row=2)} == codes
    assert differ.cell(2, 10).value == "未決"
    grade_sheet(folder / "grading" / "部長.xlsx", lambda number, row: 0.5)
    said = tenbin("grade", "import", folder, folder / "grading" / "部長.xlsx")
    assert "not graded yet" not in said
    report = to_html(build_report(sample, language="ja"))
    assert "部長 の点を用いる" in report
    said = tenbin("grade", "import", folder, folder / "grading" / "部長.xlsx", "--disagreement", "mean")
    assert "counted by mean" in said


def test_what_cannot_be_asked_for(sample, tmp_path):
    with pytest.raises(ConfigError, match="name each rater once"):
        tenbin("grade", "export", sample.path, "--rater", "佐藤", "--rater", " 佐藤 ")
    with pytest.raises(ConfigError, match="has no name"):
        tenbin("grade", "export", sample.path, "--rater", " ")
    with pytest.raises(DataError, match="there are no sheets"):
        tenbin("grade", "import", sample.path)
    with pytest.raises(DataError, match="no question of the bank has grade = judge"):
        tenbin("grade", "export", sample.path, "--rater", "佐藤", "--questions", "judge")


def test_one_run_and_another_place(sample, tmp_path):
    run = sample.runs()[0].path
    output = tmp_path / "sheets"
    tenbin("grade", "export", run, "--rater", "A/B", "--output", output, "--language", "en", "--seed", "7")
    sheet = openpyxl.load_workbook(output / "A-B.xlsx")["Grading"]
    assert sheet.max_row == 7  # six questions for people, one answer each


@pytest.mark.model
@pytest.mark.slow
def test_gemma_answers_the_sample_bank_and_two_raters_grade_it(tmp_path):
    """The real model through `LocalGenerator`, then sheets and back; the four questions of knowledge."""
    import torch
    from tests.real_parts import real_model

    from tenbin.generate.local import LocalGenerator
    from tenbin.models.encode import Encoder
    from tenbin.models.loading import load_model
    from tenbin.models.tokenizer import load_tokenizer

    source = real_model()
    prepared = prepare(study_file(tmp_path, sample_rows()[:4]), {"generation.max_new_tokens": 8})
    write_prepared(prepared)
    loaded = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    generator = LocalGenerator(
        loaded.model,
        Encoder(load_tokenizer(source.tokenizer)),
        model_id="gemma-3-270m",
        batch_size=4,
        batch_tokens=4096,
    )
    run = answer_with(prepared, "gemma-3-270m", generator)
    folder = prepared.folder.path
    tenbin("grade", "export", folder, "--rater", "佐藤", "--rater", "鈴木")
    for rater, judge in (("佐藤", strict), ("鈴木", lenient)):
        grade_sheet(folder / "grading" / f"{rater}.xlsx", judge)
    tenbin("grade", "import", folder)
    whole = run.result().results["test"].points[0]
    assert (whole.num_graded, whole.num_ungraded, whole.num_errors) == (4, 0, 0)
    assert 0 <= whole.earned <= 4
    assert "gemma-3-270m (base)" in tenbin("report", folder, "--layout", "article")


def test_a_fake_model_may_fail(tmp_path):
    """An error of the model is no answer: it is on no sheet and in no sum."""
    prepared = prepare(study_file(tmp_path, sample_rows()))
    write_prepared(prepared)
    answer_with(prepared, "m", Fake([None, *["x"] * 12]))
    folder = prepared.folder.path
    tenbin("grade", "export", folder, "--rater", "佐藤")
    sheet = openpyxl.load_workbook(folder / "grading" / "佐藤.xlsx")["採点"]
    assert "q01" not in [row[1].value for row in sheet.iter_rows(min_row=2)]
    tenbin("grade", "show", folder)
    assert prepared.folder.runs()[0].result().results["test"].points[0].num_errors == 1
