"""Grades by rule: what is extracted, the share it earns, and why."""

import pytest

from tenbin.tasks.grading.rule import extract, grade_by_rule, share_by_rule
from tenbin.types import Example


def question(grade, references, **marking):
    choices = {"choices": "大阪\n東京\n京都"} if grade == "choice" else {}
    return Example(
        id="q",
        inputs={"question": "?", **choices},
        references=references,
        marking={"grade": grade, **marking},
    )


CITY = question("choice", ("東京",))
EITHER = question("choice", ("東京", "京都"))
PRICE = question("number", ("300円",), tolerance="10")
NAME = question("exact", ("東京", "東京都"))
PARTS = question("contains", ("雨", "台風"))
BOTH = question("contains_all", ("雨", "中止"))


@pytest.mark.parametrize(
    ("row", "answer", "extracted", "share"),
    [
        (CITY, "答えはB", "東京", 1.0),
        (CITY, "大阪", "大阪", 0.0),
        (CITY, "大阪か東京", None, 0.0),
        (EITHER, "京都です", "京都", 1.0),
        (PRICE, "約305円", "305円", 1.0),
        (PRICE, "320円", "320円", 0.0),
        (PRICE, "安い", None, 0.0),
        (NAME, " 東京都。\n", "東京都。", 1.0),
        (NAME, "東京です", "東京です", 0.0),
        (PARTS, "台 風が来た", "台 風が来た", 1.0),
        (PARTS, "晴れ", "晴れ", 0.0),
        (BOTH, "雨で中止した", "雨で中止した", 1.0),
        (BOTH, "雨だった", "雨だった", 0.0),
        (BOTH, " ", None, 0.0),
    ],
)
def test_grade(row, answer, extracted, share):
    found = grade_by_rule(answer, row)
    assert (found.extracted, found.share) == (extracted, share)
    assert found.why
    assert extract(answer, row) == extracted
    assert share_by_rule(extracted, row) == share


def test_the_reason_names_what_is_missing():
    assert grade_by_rule("雨だった", BOTH).why.endswith("lacks 中止")
    assert "320円 is not 300円 within 10" in grade_by_rule("320円", PRICE).why


@pytest.mark.parametrize("grade", ["people", "judge"])
def test_people_and_judges_have_no_rule(grade):
    row = question(grade, ("東京",))
    assert grade_by_rule("東京", row) is None
    assert share_by_rule("東京", row) is None
    assert extract(" 東京\n", row) == "東京"
    assert extract("", row) == ""  # whoever grades it sees that it is empty
