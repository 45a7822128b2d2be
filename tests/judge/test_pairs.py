"""Two systems side by side: the place of an answer cannot win."""

import json

import pytest
from tests.judge.judges import HOW, Judge, completion, item, split_prompt

from tenbin.judge.pairs import judge_pair, pair_from_json, pair_outcome

ITEMS = [
    item("東京", "q1", ("a",)),
    item("大阪", "q1", ("b",)),
    item("同じ", "q2", ("a", "b")),
    item("長い答え", "q3", ("a",)),
    item("東京", "q3", ("b",)),
    item("一つだけ", "q4", ("a",)),
]


def say(better):
    def answer(text):
        code, _, data = split_prompt(text)
        return json.dumps({"code": code, "reason": "", "better": better(data["答案A"], data["答案B"])})

    return Judge(answer)


def compared(judge):
    return judge_pair("a", "b", ITEMS, judge, HOW)


def test_the_better_answer_wins_in_both_positions():
    judge = say(lambda a, b: "A" if a == "東京" else "B")
    found = compared(judge)
    assert [(row.question, row.outcome) for row in found.rows] == [("q1", "first"), ("q3", "second")]
    assert found.num_equal == 1
    assert len(judge.prompts) == 4
    assert found.share(0.95).value == 0.5
    assert found.p_value() == 1


def test_a_judge_that_likes_the_first_place_decides_nothing():
    found = compared(say(lambda a, b: "A"))
    assert {row.outcome for row in found.rows} == {"position"}
    assert found.share(0.95).value == 0.5
    assert found.count("first") == found.count("second") == 0


def test_unparsed_and_failed_judgements_are_counted():
    def answer(text):
        return completion("", error="timeout") if split_prompt(text)[2]["答案A"] == "東京" else "Aです"

    found = compared(Judge(answer))
    assert [row.outcome for row in found.rows] == ["error", "error"]
    assert {row.outcome for row in compared(Judge(lambda text: "A")).rows} == {"unparsed"}
    assert compared(Judge(lambda text: "A")).share(0.95) is None  # one equal answer says nothing alone


@pytest.mark.parametrize(
    ("as_given", "swapped", "outcome"),
    [
        ("A", "B", "first"),
        ("B", "A", "second"),
        ("same", "same", "same"),
        ("A", "same", "same"),
        ("same", "A", "same"),
        ("A", "A", "position"),
        ("B", "B", "position"),
        (None, "A", "unparsed"),
        ("A", None, "unparsed"),
    ],
)
def test_two_verdicts_become_one(as_given, swapped, outcome):
    assert pair_outcome(as_given, swapped) == outcome


def test_results_go_to_json_and_back():
    found = compared(say(lambda a, b: "same"))
    assert pair_from_json(json.loads(json.dumps(found.to_json()))) == found
