from dataclasses import replace

import pytest
from tests.report.studies import evaluate

from tenbin.report.comparisons import compare, compare_all
from tenbin.report.evidence import System
from tenbin.types import EvalRow


def system(name, scores, groups=None, kind="base"):
    rows = tuple(
        EvalRow(
            id=f"e{i}",
            prompt="",
            completion="",
            stop_reason="stop",
            answer="",
            references=("",),
            scores={"accuracy": score, "mcc": score},
            group=groups[i] if groups else None,
        )
        for i, score in enumerate(scores)
    )
    return System(
        key=name, name=name, kind=kind, result=evaluate("classification", name, "test", rows), rows=rows
    )


def test_mcnemar_by_hand():
    a = system("a", [1.0] * 8 + [0.0] * 1 + [1.0] * 11)
    b = system("b", [0.0] * 8 + [1.0] * 1 + [1.0] * 11)
    found = compare(a, b, "accuracy", 0.95)
    assert (found.n, found.only_a, found.only_b, found.method) == (20, 8, 1, "exact McNemar")
    assert found.p_value == pytest.approx(2 * (1 + 9) / 512)
    assert found.difference.value == pytest.approx(0.35)
    assert found.difference.low < 0.35 < found.difference.high


def test_groups_and_partial_scores_flip_signs():
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    grouped = [system(n, s, groups=list("xxyyzz")) for n, s in (("a", scores), ("b", [0.0] * 6))]
    assert compare(*grouped, "accuracy", 0.95).method.startswith("sign-flip")
    partial = [system("a", [0.5, 1.0, 0.7]), system("b", [0.4, 0.2, 0.7])]
    assert compare(*partial, "accuracy", 0.95).method.startswith("sign-flip")


def test_an_example_without_a_score_is_left_out_of_the_pair():
    found = compare(system("a", [1.0, None, 1.0]), system("b", [1.0, 0.0, None]), "accuracy", 0.95)
    assert found.n == 1


def test_rows_pair_by_id_whatever_their_order():
    a, b = system("a", [1.0, 0.0, 1.0, 1.0]), system("b", [1.0, 0.0, 1.0, 0.0])
    shuffled = replace(b, rows=b.rows[::-1])
    assert compare(a, shuffled, "accuracy", 0.95) == replace(compare(a, b, "accuracy", 0.95), b=shuffled)
    assert compare(a, shuffled, "accuracy", 0.95).only_a == 1


def test_systems_without_rows_are_not_tested_and_say_so():
    a, b = system("a", [1.0, 0.0]), system("b", [])
    found = compare(a, b, "accuracy", 0.95)
    assert (found.p_value, found.difference) == (None, None)
    assert found.reason


def test_holm_over_all_pairs():
    found = compare_all(
        [system("a", [1.0] * 20), system("b", [0.0] * 12 + [1.0] * 8), system("c", [0.0] * 20)],
        "accuracy",
        0.95,
    )
    raw = [c.p_value for c in found]
    assert raw == pytest.approx([2 * 0.5**12, 2 * 0.5**20, 2 * 0.5**8])
    assert [c.p_adjusted for c in found] == pytest.approx([2 * raw[0], 3 * raw[1], raw[2]])
    assert all(c.clear(0.95) for c in found)
    assert found[0].better(found[0].a, 0.95)
    assert not found[0].better(found[0].b, 0.95)


def test_the_needed_number_would_show_the_difference():
    a = system("a", [1.0] * 3 + [0.0] * 1 + [1.0] * 16)
    b = system("b", [0.0] * 3 + [1.0] * 1 + [1.0] * 16)
    found = compare(a, b, "accuracy", 0.95)
    assert not found.p_value < 0.05
    # d = 0.1, q = 0.2: (1.959964 sqrt(0.2) + 0.841621 sqrt(0.19))^2 / 0.01 = 154.5
    assert found.needed == 155
    assert compare(a, a, "accuracy", 0.95).needed is None
