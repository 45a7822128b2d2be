"""A judge against people."""

import pytest
from tests.judge.judges import item

from tenbin.grading.store import Grade
from tenbin.judge.calibration import calibrate, judges_of
from tenbin.stats import bootstrap_by_index, cohen_kappa

SCALE = (0.0, 0.5, 1.0)
ITEMS = [item(f"答え{number}", f"q{number}") for number in range(40)]
PEOPLE = [SCALE[number % 3] for number in range(40)]


def grade(of, value, kind="judge", grader="judge:x", repeat=0, **details):
    return Grade(
        question=of.question,
        version=of.version,
        answer=of.answer,
        extracted=of.answer,
        grade=value,
        scale=SCALE,
        kind=kind,
        grader=grader,
        reason="",
        time="2026-01-01T00:00:00+00:00",
        repeat=repeat,
        details=details,
    )


def people(values=PEOPLE, grader="佐藤"):
    return [grade(i, v, kind="person", grader=grader) for i, v in zip(ITEMS, values, strict=False)]


def judge(values, **options):
    return [grade(i, v, **options) for i, v in zip(ITEMS, values, strict=False)]


def wrong_in(values, every):
    return [(0.0 if v == 0.5 else 0.5) if place % every == 0 else v for place, v in enumerate(values)]


def test_a_judge_that_agrees_often_enough_is_calibrated():
    said = wrong_in(PEOPLE, 9)
    found = calibrate("judge:x", ITEMS, [*people(), *judge(said)])
    assert found.state == "calibrated"
    assert found.kappa == pytest.approx(cohen_kappa(PEOPLE, said, SCALE, weights="quadratic").value)
    assert found.interval.low < found.kappa < found.interval.high
    assert found.num_items == 40
    assert found.agreement.value == sum(a == b for a, b in zip(PEOPLE, said, strict=True)) / 40
    assert sum(found.confusion.values()) == 40
    assert found.confusion[0.5, 0.5] == PEOPLE.count(0.5)


def test_a_judge_that_agrees_always_is_calibrated_where_that_is_often_enough():
    found = calibrate("judge:x", ITEMS, [*people(), *judge(PEOPLE)])
    assert found.state == "calibrated"
    assert (found.kappa, found.interval.high) == (1, 1)
    assert 0.8 < found.interval.low < 1
    few = calibrate("judge:x", ITEMS[:6], [*people(), *judge(PEOPLE)], min_human=5)
    assert few.state == "too low"


def test_the_interval_is_that_of_resampled_kappas():
    said = wrong_in(PEOPLE, 5)
    found = calibrate("judge:x", ITEMS, [*people(), *judge(said)])

    def kappa(places):
        result = cohen_kappa(
            [PEOPLE[p] for p in places], [said[p] for p in places], SCALE, weights="quadratic"
        )
        return result.value

    slow = bootstrap_by_index(40, kappa, seed=0)
    assert found.interval.low == pytest.approx(slow.low, abs=0.05)
    assert found.interval.high == pytest.approx(slow.high, abs=0.05)


def test_a_judge_at_chance_is_not():
    found = calibrate("judge:x", ITEMS, [*people(), *judge([SCALE[n % 2] for n in range(40)])])
    assert found.state == "too low"
    assert "lower end is below 0.4" in found.reason


def test_a_judge_that_always_gives_full_marks_is_not_and_its_bias_is_told():
    found = calibrate("judge:x", ITEMS, [*people(), *judge([1.0] * 40)])
    assert found.state == "too low"
    assert found.kappa == 0
    assert found.bias == pytest.approx(1 - sum(PEOPLE) / 40)


def test_few_answers_calibrate_nothing():
    found = calibrate("judge:x", ITEMS[:10], [*people(), *judge(PEOPLE)])
    assert found.state == "too few"
    assert "10 answers both, and 20 are wanted" in found.reason
    assert calibrate("judge:x", ITEMS, judge(PEOPLE)).state == "too few"


def test_one_grade_throughout_is_undefined():
    ones = [1.0] * 40
    assert calibrate("judge:x", ITEMS, [*people(ones), *judge(ones)]).state == "undefined"


def test_unparsed_failed_and_unsteady_judgements_are_counted():
    grades = [
        *judge([None] * 3),
        *[grade(ITEMS[3], None, error="timeout")],
        *[grade(i, 1.0) for i in ITEMS[4:8]],
        *[grade(i, v, repeat=1) for i, v in zip(ITEMS[4:8], (1.0, 1.0, 0.5, 0.0), strict=True)],
    ]
    found = calibrate("judge:x", ITEMS, grades)
    assert (found.num_judged, found.num_unparsed, found.num_failed) == (12, 3, 1)
    assert (found.num_repeated, found.num_steady) == (4, 2)


def test_the_lower_median_stands_for_several():
    both = [*people([1.0], "佐藤"), *people([0.5], "鈴木"), *judge([1.0]), *judge([0.0], repeat=1)]
    found = calibrate("judge:x", ITEMS, both)
    assert found.confusion == {(0.5, 0.0): 1}


def test_only_the_named_judge_counts():
    grades = [*people(), *judge(PEOPLE), *judge([0.0] * 40, grader="judge:y")]
    assert judges_of(grades) == ("judge:x", "judge:y")
    assert calibrate("judge:x", ITEMS, grades).num_judged == 40
    assert calibrate("judge:x", ITEMS, grades).agreement.value == 1
