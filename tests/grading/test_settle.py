"""Which grade of several counts for one answer."""

import pytest

from tenbin.config_grading import GradingConfig
from tenbin.grading.settle import grades_by_answer, settle
from tenbin.grading.store import Grade

MEAN = GradingConfig()
ONE = GradingConfig(disagreement="adjudicator", adjudicator="長")


def grade(value, grader="佐藤", kind="person", repeat=0, scale=(0.0, 0.5, 1.0)):
    return Grade(
        question="q",
        version="v",
        answer="a",
        extracted="a",
        grade=value,
        scale=scale,
        kind=kind,
        grader=grader,
        reason="",
        time="",
        repeat=repeat,
    )


def counted(by, rule, grades, settings=MEAN):
    found = settle(by, rule, grades_by_answer(grades).get(("q", "v", "a"), ()), settings)
    return found.share, found.kind, found.graders


@pytest.mark.parametrize(
    ("by", "rule", "grades", "expected"),
    [
        ("people", None, [], (None, None, ())),
        ("choice", 1.0, [], (1.0, "rule", ("choice",))),
        ("choice", 1.0, [grade(0.5)], (0.5, "person", ("佐藤",))),
        ("choice", 1.0, [grade(0.0, "gpt", "judge")], (1.0, "rule", ("choice",))),
        ("people", None, [grade(1.0, "gpt", "judge")], (None, None, ())),
        ("judge", None, [grade(1.0, "gpt", "judge")], (1.0, "judge", ("gpt",))),
        ("judge", None, [grade(1.0, "gpt", "judge"), grade(0.0)], (0.0, "person", ("佐藤",))),
        ("judge", None, [grade(None, "gpt", "judge")], (None, None, ())),
        ("people", None, [grade(None)], (None, None, ())),
        ("people", None, [grade(1.0), grade(0.5)], (0.5, "person", ("佐藤",))),
        ("people", None, [grade(1.0), grade(None)], (None, None, ())),
        ("people", None, [grade(1.0), grade(0.5, "鈴木")], (0.75, "person", ("佐藤", "鈴木"))),
        ("people", None, [grade(4.0, scale=(0.0, 2.0, 4.0, 8.0))], (0.5, "person", ("佐藤",))),
    ],
)
def test_people_then_the_rule_then_a_judge_where_one_is_asked_for(by, rule, grades, expected):
    assert counted(by, rule, grades) == expected


def test_repeats_of_a_judge_are_one_voice_and_unread_ones_are_said():
    grades = [
        grade(1.0, "gpt", "judge", 0),
        grade(0.5, "gpt", "judge", 1),
        grade(None, "gpt", "judge", 2),
        grade(0.25, "other", "judge"),
    ]
    found = settle("judge", None, grades, MEAN)
    assert (found.share, found.graders, found.differ) == (0.5, ("gpt", "other"), True)
    assert found.why == "mean of 3 judgements, 1 gave no grade"


def test_an_adjudicator_settles_what_others_differ_on():
    both = [grade(1.0), grade(0.0, "鈴木")]
    assert counted("people", None, both, ONE) == (None, None, ("佐藤", "鈴木"))
    assert counted("people", None, [*both, grade(0.5, "長")], ONE) == (0.5, "person", ("長",))
    assert counted("people", None, [grade(1.0), grade(1.0, "鈴木")], ONE)[0] == 1.0
    waiting = settle("people", None, both, ONE)
    assert waiting.differ
    assert waiting.why == "the raters differ, and 長 has not graded it"
