"""Only the judge's own object counts."""

import json

import pytest

from tenbin.judge.verdict import read_better, read_grade

CODE = "0123456789ab"
SCALE = (0.0, 0.5, 1.0)
GOOD = json.dumps({"code": CODE, "reason": "よい", "grade": 0.5})


@pytest.mark.parametrize(
    "text",
    [GOOD, f"  \n{GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n以上", f"{GOOD}\n\n説明です。"],
)
def test_the_object_at_the_beginning_is_read(text):
    found = read_grade(text, CODE, SCALE)
    assert (found.value, found.reason) == (0.5, "よい")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("0.5", "no JSON object"),
        (f"採点します。{GOOD}", "no JSON object"),
        (f"[{GOOD}]", "no JSON object"),
        ('{"code": "0123456789ab", "reason": "よい", "grade": 0.5', "not JSON"),
        ("{" * 5000, "not JSON"),
        (GOOD.replace(CODE, "0123456789ac"), "its code is not"),
        (GOOD.replace('"grade"', '"score"'), "its keys are"),
        (GOOD[:-1] + ', "note": 1}', "its keys are"),
        (GOOD[:-1] + ', "grade": 1}', "a key comes twice"),
        (GOOD.replace("0.5", '"0.5"'), "no number"),
        (GOOD.replace("0.5", "true"), "no number"),
        (GOOD.replace("0.5", "NaN"), "no number"),
        (GOOD.replace("0.5", "null"), "no number"),
        (GOOD.replace("0.5", "0.7"), "not one of 0, 0.5, 1"),
        (GOOD.replace("0.5", "-0.5"), "not one of"),
        (GOOD.replace('"\\u3088\\u3044"', "1"), "its reason is no text"),
        (f"{GOOD}\n{GOOD}", "more than one verdict"),
        (f"```json\n{GOOD}\n```\n{GOOD}", "more than one verdict"),
    ],
)
def test_anything_else_is_unparsed_with_its_reason(text, reason):
    found = read_grade(text, CODE, SCALE)
    assert found.value is None
    assert reason in found.reason


def test_which_is_better():
    for value in ("A", "B", "same"):
        assert read_better(json.dumps({"code": CODE, "reason": "", "better": value}), CODE).value == value
    assert read_better(json.dumps({"code": CODE, "reason": "", "better": "C"}), CODE).value is None
    assert read_better(GOOD, CODE).value is None
