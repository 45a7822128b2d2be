"""What an answer did with its text."""

import pytest
from tests.rag.questions import contexts

from tenbin.config_rag import ABSENT_PHRASES
from tenbin.rag.outcome import outcome

MADE, _ = contexts(lengths=(300,), depths=(0.5,))
PRESENT = next(c for c in MADE if c.condition == "present" and c.example.id == "a")
ABSENT = next(c for c in MADE if c.condition == "absent" and c.example.id == "a")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("十月三日", "reference"),
        ("答えは「十月 三日」です。", "reference"),
        ("全社員", "needed"),
        ("答えは全社員です。", "needed"),
        ("棚卸し", "other"),
        ("五月五日", "nowhere"),
        ("本文にありません。", "says_absent"),
        ("その日付は文章には記載されていません", "says_absent"),
        ("わかりません", "says_absent"),
        (None, "unparsed"),
        ("。", "unparsed"),
    ],
)
def test_outcomes_with_the_answer_in_the_text(answer, expected):
    assert outcome(answer, PRESENT, ABSENT_PHRASES) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("十月三日", "nowhere"), ("棚卸し", "other"), ("本文にありません", "says_absent")],
)
def test_outcomes_without_it(answer, expected):
    assert outcome(answer, ABSENT, ABSENT_PHRASES) == expected


def test_an_error_is_no_answer():
    assert outcome(None, PRESENT, ABSENT_PHRASES, error="too long") == "error"
