"""Agreement of raters on the answers of a bank, and the list of those they differ on."""

import pytest
from tests.grading.banks import person

from tenbin.config_grading import GradingConfig
from tenbin.grading.agreement import rater_agreement
from tenbin.grading.items import Item

SETTINGS = GradingConfig()


def item(question, answer):
    return Item(
        question=question,
        version="v",
        answer=answer,
        extracted=answer,
        fields={"grade": "people", "points": "1"},
        references=("r",),
        systems=("m",),
    )


ITEMS = tuple(item(f"q{i // 2}", f"a{i}") for i in range(24))


def graded(first, second):
    return [
        *(person(i, g, "佐藤") for i, g in zip(ITEMS, first, strict=False) if g is not None),
        *(person(i, g, "鈴木") for i, g in zip(ITEMS, second, strict=False) if g is not None),
    ]


FIRST = [1, 1, 0.5, 0, 1, 0.5, 0, 0, 1, 0.5, 0.5, 1] * 2
SECOND = [1, 1, 1.0, 0, 1, 0.0, 0, 0, 1, 0.5, 0.5, 1] * 2


def test_two_raters():
    found = rater_agreement(ITEMS, graded(FIRST, SECOND), SETTINGS)
    assert found.raters == ("佐藤", "鈴木")
    assert found.num_graded == {"佐藤": 24, "鈴木": 24}
    (pair,) = found.pairs
    assert (pair.num_items, pair.num_equal, found.num_items) == (24, 20, 24)
    # quadratic weights by hand: observed 4 pairs half a point apart of 24; by chance from the margins
    observed = 4 / 24 * 1
    margins = [{0: 6, 0.5: 8, 1: 10}, {0: 8, 0.5: 4, 1: 12}]
    expected = sum(
        margins[0][a] * margins[1][b] / 24**2 * (2 * (a - b)) ** 2 for a in margins[0] for b in margins[1]
    )
    assert pair.kappa.value == pytest.approx(1 - observed / expected)
    assert pair.kappa.interval.low < pair.kappa.value < pair.kappa.interval.high <= 1
    assert pair.kappa.interval.n == 24
    assert "12 groups" in pair.kappa.interval.method
    assert 0 < found.alpha.value < 1
    assert found.alpha.interval.low < found.alpha.value < found.alpha.interval.high


def test_gaps_and_a_third_rater_count_where_they_can():
    grades = [*graded([1, 0, None, 0.5], [1, None, 0, 0.5]), person(ITEMS[0], 1.0, "長")]
    found = rater_agreement(ITEMS, grades, SETTINGS)
    assert [(p.first, p.second, p.num_items) for p in found.pairs] == [
        ("佐藤", "鈴木", 2),
        ("佐藤", "長", 1),
        ("鈴木", "長", 1),
    ]
    assert found.num_items == 2
    assert found.num_graded == {"佐藤": 3, "鈴木": 3, "長": 1}


def test_disagreements_the_widest_first_with_what_counts():
    grades = [*graded([1, 1, 1], [0.5, 0, 1]), person(ITEMS[0], 1.0, "長", reason="条件を満たす")]
    found = rater_agreement(ITEMS, grades, SETTINGS).disagreements
    assert [(d.item.answer, d.spread) for d in found] == [("a1", 1.0), ("a0", 0.5)]
    assert found[0].settled.share == 0.5
    assert found[1].grades["長"].reason == "条件を満たす"
    one = GradingConfig(disagreement="adjudicator", adjudicator="長")
    settled = {d.item.answer: d.settled.share for d in rater_agreement(ITEMS, grades, one).disagreements}
    assert settled == {"a1": None, "a0": 1.0}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([], [], "no answer is graded by two raters"),
        ([1, None], [None, 1], "no answer is graded by two raters"),
        ([1, 1, 1, 1], [1, 1, 1, 1], "the same"),
        ([1, 0], [1, 0], "no interval"),
        ([1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0], "no interval"),
    ],
)
def test_what_cannot_be_said_has_a_reason(first, second, reason):
    found = rater_agreement(ITEMS, graded(first, second), SETTINGS)
    assert reason in found.alpha.reason
    assert found.alpha.interval is None
    if len(found.raters) == 2:
        assert found.pairs[0].kappa.interval is None
    assert found.disagreements == ()


def test_grades_of_answers_that_are_gone_are_left_alone():
    assert rater_agreement(ITEMS[:1], graded(FIRST, SECOND), SETTINGS).num_graded == {"佐藤": 1, "鈴木": 1}


def test_the_same_grades_give_the_same_interval():
    a, b = (rater_agreement(ITEMS, graded(FIRST, SECOND), SETTINGS).alpha for _ in range(2))
    assert a == b
