"""From answers and grades to points: by rule at once, by people later, never 0 for what nobody graded."""

from dataclasses import replace

import pytest
from tests.grading.banks import ANSWERS, ROWS, answered, items_by_answer, person

from tenbin.errors import DataError
from tenbin.grading.folder import gradable_items, study_of
from tenbin.grading.items import finished_runs, question_version
from tenbin.grading.scores import apply_grades
from tenbin.grading.store import append_grades, read_grades
from tenbin.points import points_parts


def points(study):
    return {run.spec.model: run.result().results["test"].points for run in study.runs()}


def test_rules_grade_at_once_and_the_rest_waits(tmp_path):
    study = answered(tmp_path)
    alpha = points(study)["alpha"][0]
    assert (alpha.category, alpha.earned, alpha.possible) == (None, 3.0, 3.0)
    assert (alpha.num_graded, alpha.num_ungraded, alpha.num_errors) == (2, 2, 0)
    assert alpha.by == {"rule": 2}
    gamma = points(study)["gamma"]
    assert [(p.category, p.earned, p.possible, p.num_ungraded, p.num_errors) for p in gamma] == [
        (None, 0.0, 3.0, 1, 1),
        ("知識", 0.0, 1.0, 0, 0),
        ("計算", 0.0, 2.0, 0, 0),
        ("記述", 0.0, 0.0, 1, 1),
    ]
    assert gamma[3].estimate is None
    assert gamma[3].reason == "no answer is graded yet"


def test_unparsed_are_counted_and_the_metric_is_the_points(tmp_path):
    result = {r.spec.model: r.result().results["test"] for r in answered(tmp_path).runs()}
    assert [result[m].num_unparsed for m in ANSWERS] == [0, 0, 2]
    summary = result["alpha"].metric("points")
    assert summary == result["alpha"].metrics[0]
    assert summary.estimate == result["alpha"].points[0].estimate
    assert summary.estimate.n == 2


def test_an_answer_of_two_systems_is_one_item(tmp_path):
    items = items_by_answer(answered(tmp_path))
    rain = items[("q3", "雨が降ったから")]
    assert [s.split("-")[0] for s in rain.systems] == ["alpha", "beta"]
    assert rain.references == ("雨のため", "雨天")
    assert rain.fields["context"] == "雨が降ったので、試合は中止になった。"
    assert len({item.code for item in items.values()}) == len(items)
    assert all(item.code.isalpha() and item.code.isupper() for item in items.values())
    assert not any("alpha" in item.code or "alpha" in str(item.key) for item in items.values())


def test_grades_of_people_become_points_in_result_json(tmp_path):
    study = answered(tmp_path)
    items = items_by_answer(study)
    append_grades(
        study.path,
        [
            person(items[("q3", "雨が降ったから")], 0.5),
            person(items[("q4", "よい")], 1.0),
            person(items[("q4", "=1+1")], 0.0),
            person(items[("q4", "=1+1")], 1.0, "鈴木"),
        ],
    )
    assert apply_grades(study) == 3
    alpha, beta, gamma = (points(study)[model] for model in ANSWERS)
    assert (alpha[0].earned, alpha[0].possible, alpha[0].num_ungraded) == (1 + 2 + 1.5 + 1, 7.0, 0)
    assert alpha[0].by == {"rule": 2, "people 佐藤": 2}
    assert beta[0].by == {"rule": 2, "people 佐藤": 1, "people 佐藤, 鈴木": 1}
    assert beta[0].earned == pytest.approx(0 + 0 + 1.5 + 0.5)
    assert (gamma[0].earned, gamma[0].possible, gamma[0].num_ungraded) == (0.0, 3.0, 1)
    assert alpha[0].estimate.value == pytest.approx(5.5 / 7)


def test_applying_twice_changes_nothing_and_rules_are_recorded_once(tmp_path):
    study = answered(tmp_path)
    apply_grades(study)
    files = {p: p.read_bytes() for p in study.path.rglob("*.json*")}
    apply_grades(study)
    assert {p: p.read_bytes() for p in study.path.rglob("*.json*")} == files
    rules = [g for g in read_grades(study.path) if g.kind == "rule"]
    assert {(g.question, g.answer, g.extracted, g.grade, g.grader) for g in rules} == {
        ("q1", "東京", "東京", 1.0, "choice"),
        ("q1", "答えは大阪です", "大阪", 0.0, "choice"),
        ("q1", "大阪か京都", None, 0.0, "choice"),
        ("q2", "300円", "300円", 1.0, "number"),
        ("q2", "約200円", "200円", 0.0, "number"),
        ("q2", "", None, 0.0, "number"),
    }
    assert all(g.reason and g.time for g in rules)


def test_other_words_need_other_grades_and_other_points_do_not(tmp_path):
    fields, references = {"question": "?", "marking_note": "1点", "points": "1", "category": "a"}, ("x",)
    version = question_version(fields, references)
    assert (
        question_version({**fields, "points": "5", "category": "b", "grade": "people"}, references) == version
    )
    assert question_version({**fields, "context": ""}, references) == version
    for changed in ({"question": "??"}, {"marking_note": "2点"}, {"context": "c"}):
        assert question_version({**fields, **changed}, references) != version
    assert question_version(fields, ("y",)) != version


def test_grades_under_an_earlier_marking_note_do_not_count(tmp_path):
    study = answered(tmp_path)
    item = items_by_answer(study)[("q4", "よい")]
    append_grades(study.path, [person(item, 1.0, version="an-earlier-one")])
    apply_grades(study)
    assert points(study)["alpha"][0].num_ungraded == 2


def test_study_and_run_folders_are_one_study(tmp_path):
    study = answered(tmp_path / "a")
    other = answered(tmp_path / "b")
    runs = finished_runs(study)
    assert len(study_of([study.path])[1]) == 3
    assert [r.path.name for r in study_of([runs[0].path])[1]] == [runs[0].path.name]
    with pytest.raises(DataError, match="are of 2 studies"):
        study_of([study.path, other.path])
    with pytest.raises(DataError, match="no such folder") as caught:
        study_of([tmp_path / "x", tmp_path])
    assert len(caught.value.problems) == 2
    (runs[0].path / "result.json").unlink()
    with pytest.raises(DataError, match="no result yet"):
        study_of([runs[0].path])


def test_other_tasks_have_nothing_to_grade(tmp_path):
    from tests.report.studies import make_study

    study = make_study(tmp_path / "s", n=4, unfinished=False)
    assert apply_grades(study) == 0
    with pytest.raises(DataError, match="no question bank"):
        gradable_items(study, finished_runs(study))


def test_parts_are_of_questions_only(tmp_path):
    study = answered(tmp_path, [{**row, "category": ""} for row in ROWS])
    (part,) = points(study)["alpha"]  # no categories: one part
    assert part.category is None
    rows = finished_runs(study)[0].read_rows("test")
    assert points_parts([replace(row, question={}) for row in rows]) == ()


def test_questions_about_one_text_are_one_cluster(tmp_path):
    rows = [
        {"id": f"c{i}", "question": f"{i}?", "context": f"資料{i // 4}", "reference": "a", "grade": "exact"}
        for i in range(16)
    ]
    says = {"alpha": ["a" if i // 4 < 2 else "b" for i in range(16)]}
    estimate = points(answered(tmp_path, rows, says))["alpha"][0].estimate
    assert estimate.method == "score interval, 4 groups"
