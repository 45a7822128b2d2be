"""Judgements of items: repeats, the store, errors, and what is asked again."""

import pytest
from tests.judge.judges import HOW, Judge, completion, item, obedient, split_prompt, verdict

from tenbin.grading.store import append_grades, read_grades
from tenbin.judge.grading import Judging, items_to_judge, judge_items

ITEMS = [item("東京"), item("大阪"), item("京都", question="q2")]
TWICE = Judging(**{**{f: getattr(HOW, f) for f in HOW.__slots__}, "repeats": 2})


def judged(folder, judge, items=ITEMS, how=HOW):
    def keep(grade):
        append_grades(folder, [grade])

    judge_items(items, judge, how, given=read_grades(folder), keep=keep)
    return read_grades(folder)


def test_every_answer_gets_its_grade_with_all_that_is_known(tmp_path):
    grades = judged(tmp_path, Judge(obedient))
    assert [grade.grade for grade in grades] == [1, 0, 0]
    first = grades[0]
    assert (first.kind, first.grader, first.repeat, first.scale) == (
        "judge",
        "judge:test",
        0,
        (0.0, 0.5, 1.0),
    )
    assert first.reason == "理由"
    assert first.details["code"] in first.details["completion"]
    assert "judge/1" in first.source
    assert first.key == ITEMS[0].key


def test_repeats_are_asked_in_another_order(tmp_path):
    judge = Judge(obedient)
    grades = judged(tmp_path, judge, ITEMS[:1], TWICE)
    assert [grade.repeat for grade in grades] == [0, 1]
    first, second = judge.prompts
    assert split_prompt(first)[0] != split_prompt(second)[0]
    assert "0、0.5、1" in first
    assert "1、0.5、0" in second
    assert first.index("問題 ====") < first.index("正解 ====")
    assert second.index("正解 ====") < second.index("問題 ====")
    assert first.count("システム") == second.count("run-a") == 0  # nothing tells who answered


def test_what_is_there_is_not_asked_again(tmp_path):
    judged(tmp_path, Judge(obedient))
    again = Judge(obedient)
    assert len(judged(tmp_path, again, how=TWICE)) == 6
    assert len(again.prompts) == 3  # the second repeat alone


def test_other_settings_are_asked_anew(tmp_path):
    judged(tmp_path, Judge(obedient))
    again = Judge(obedient)
    other = Judging(**{**{f: getattr(HOW, f) for f in HOW.__slots__}, "seed": 1})
    judged(tmp_path, again, how=other)
    assert len(again.prompts) == 3


def test_unparsed_judgements_are_kept_and_failed_calls_are_made_again(tmp_path):
    def say(text):
        answer = split_prompt(text)[2]["答案"]
        if answer == "東京":
            return "1点だと思います"
        return completion("", error="timeout") if answer == "大阪" else obedient(text)

    grades = judged(tmp_path, Judge(say))
    assert [grade.grade for grade in grades] == [None, None, 0]
    assert grades[0].reason == "unparsed: there is no JSON object at the beginning"
    assert grades[0].details["completion"] == "1点だと思います"
    assert grades[1].reason == "the judge gave no completion: timeout"
    again = Judge(obedient)
    grades = judged(tmp_path, again)
    assert len(again.prompts) == 1
    assert grades[-1].answer == "大阪"
    assert grades[-1].grade == 0


def test_a_grade_off_the_scale_never_reaches_the_store(tmp_path):
    (grade,) = judged(tmp_path, Judge(lambda text: verdict(split_prompt(text)[0], 5)), ITEMS[:1])
    assert grade.grade is None
    assert "5 is not one of 0, 0.5, 1" in grade.reason


@pytest.mark.parametrize(("calibrate", "expected"), [(True, ["judge", "people"]), (False, ["judge"])])
def test_which_answers_are_judged(calibrate, expected):
    items = [item("x", grade=grade) for grade in ("choice", "judge", "people", "number")]
    found = items_to_judge(items, calibrate=calibrate)
    assert [i.fields["grade"] for i in found] == expected
