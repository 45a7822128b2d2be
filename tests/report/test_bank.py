"""The report of a question bank: the article's table, who graded, agreement; weights and what is open."""

import pytest
from tests.grading.banks import ANSWERS, ROWS, answered, items_by_answer, person
from tests.report.chromium import CHROMIUM, opened

from tenbin.grading.store import append_grades
from tenbin.report import article_tables, build_report, to_html, to_markdown, write_report
from tenbin.report.comparisons import paired_scores
from tenbin.report.evidence import read_evidence
from tenbin.report.words import Words


@pytest.fixture
def study(tmp_path):
    return answered(tmp_path / "study")


def rows_of(table):
    return {row[0].text.split(" ")[0]: [cell.text for cell in row[1:]] for row in table.rows}


def part_of(report):
    (part,) = [part for part in report.parts if part.id == "grading"]
    return part


def tables_of(report):
    return {table.id: table for table in (*report.paper, *part_of(report).tables)}


def grade_all(study):
    items = items_by_answer(study)
    append_grades(
        study.path,
        [
            person(items[("q3", "雨が降ったから")], 1.0),
            person(items[("q3", "わからない")], 0.0),
            person(items[("q4", "よい")], 1.0),
            person(items[("q4", "よい")], 0.5, "鈴木"),
            person(items[("q4", "=1+1")], 0.0),
            person(items[("q4", "=1+1")], 0.0, "鈴木"),
        ],
    )


def test_before_anybody_has_graded(study):
    report = build_report(study)
    table = tables_of(report)["points"]
    assert table.columns == (
        "Model",
        "知識 (1)",
        "計算 (1)",
        "記述 (2)",
        "Points",
        "Points (%)",
        "95 % interval",
        "n",
        "Not graded",
        "Errors",
    )
    shown = rows_of(table)
    assert shown["alpha"][:5] == ["1 / 1", "2 / 2", "–", "3 / 3", "100.00"]
    assert shown["alpha"][6:] == ["2", "2", "0"]
    assert shown["gamma"][6:] == ["2", "1", "1"]
    assert part_of(report).notes[0] == "alpha (base): 2 answers are not graded yet; they are in no sum."
    assert "gamma (base): 1 answer is not graded yet; it is in no sum." in part_of(report).notes
    assert any("2 of 4 answers are not graded yet" in caution for caution in report.advice.cautions)
    assert "agreement" not in tables_of(report)


def test_the_store_counts_without_anything_being_worked_out_first(study):
    grade_all(study)
    report = build_report(study)
    shown = rows_of(tables_of(report)["points"])
    assert shown["alpha"][:5] == ["1 / 1", "2 / 2", "3.75 / 4", "6.75 / 7", "96.43"]
    assert shown["beta"][3] == "3 / 7"
    assert shown["gamma"][3] == "0 / 6"
    graders = tables_of(report)["graders"]
    assert graders.columns == ("System", "rule", "people: 佐藤", "people: 佐藤, 鈴木", "Not graded", "Errors")
    assert rows_of(graders)["alpha"] == ["2", "1", "1", "0", "0"]
    assert rows_of(graders)["gamma"] == ["2", "1", "0", "0", "1"]


def test_every_category_has_its_n_and_interval(study):
    grade_all(study)
    table = tables_of(build_report(study))["points-by-category"]
    first = [[cell.text for cell in row[1:]] for row in table.rows[:4]]
    assert [row[0] for row in first] == ["all", "知識", "計算", "記述"]
    assert first[1][3] == "one example only"
    assert " – " in first[0][3]
    assert [row[4] for row in first] == ["4", "1", "1", "2"]


def test_agreement_and_how_a_disagreement_counts(tmp_path):
    study = answered(tmp_path, disagreement="adjudicator", adjudicator="鈴木")
    grade_all(study)
    table = tables_of(build_report(study))["agreement"]
    assert [row[0].text for row in table.rows] == ["佐藤 – 鈴木", "all raters"]
    assert [row[-1].text for row in table.rows] == ["1", "1"]
    assert "Where raters differ, the grade of 鈴木 counts." in table.notes
    assert rows_of(tables_of(build_report(study))["points"])["alpha"][2] == "3.5 / 4"


def test_pairs_are_weighed_by_points(study):
    grade_all(study)
    alpha, beta, gamma = read_evidence(study, Words("en")).systems
    first, second, groups = paired_scores(alpha, beta, "points")
    weights = [1, 2, 3, 1]
    assert first == pytest.approx([w / 1.75 * s for w, s in zip(weights, (1, 1, 1, 0.75), strict=True)])
    assert sum(a - b for a, b in zip(first, second, strict=True)) / 4 == pytest.approx((6.75 - 3) / 7)
    assert groups is None
    assert len(paired_scores(alpha, gamma, "points")[0]) == 3  # gamma made an error
    assert paired_scores(alpha, beta, "exact_match_nfkc")[0] == [1.0, 1.0, 0.0, 1.0]


def test_one_table_in_two_languages(study):
    grade_all(study)
    (english,), (japanese,) = article_tables(study), article_tables(study, language="ja")
    assert [[c.text for c in r] for r in english.rows] == [[c.text for c in r] for r in japanese.rows]
    assert japanese.columns[4:6] == ("得点", "得点率（%）")


def test_many_categories_have_rows_and_no_columns(tmp_path):
    rows = [{"id": f"q{i}", "category": f"分野{i}", "question": "?", "reference": "a"} for i in range(9)]
    report = build_report(answered(tmp_path, rows, {"alpha": ["a"] * 9}))
    assert tables_of(report)["points"].columns[:2] == ("Model", "Points")
    assert len(tables_of(report)["points-by-category"].rows) == 10


def test_other_tasks_have_no_such_table(tmp_path):
    from tests.report.studies import make_study

    study = make_study(tmp_path / "s", n=20, unfinished=False)
    assert article_tables(study) == []
    assert [part.id for part in build_report(study).parts] == []


def test_texts_of_raters_and_models_are_no_markup(tmp_path):
    hostile = "<script>alert(1)</script>"
    rows = [{**ROWS[3], "category": hostile}]
    study = answered(tmp_path, rows, {"alpha": [hostile], "beta": ["x"]})
    items = items_by_answer(study)
    append_grades(
        study.path,
        [person(i, g, n) for i, g in zip(items.values(), (1.0, 0.0), strict=True) for n in (hostile, "b")],
    )
    report = build_report(study)
    assert hostile not in to_html(report)
    assert "&lt;script&gt;" in to_html(report)
    assert hostile not in to_markdown(report)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_report_opens_without_a_complaint(study, tmp_path, language):
    grade_all(study)
    text, complaints = opened(write_report(study, language=language), tmp_path / "profile")
    assert complaints == []
    assert 'id="points"' in text
    assert 'id="agreement"' in text
    assert all(name in text for name in ANSWERS)
