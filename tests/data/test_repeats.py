"""A mistyped category is told once, however many rows have it."""

from tenbin.data.repeats import once_a_value
from tenbin.errors import Problem


def typo(row, text="普通", field="category"):
    return Problem(where=f"a.csv:{row}", field=field, found=f"{text!r} is not a category", remedy="mend it")


def empty(row):
    return Problem(where=f"a.csv:{row}", field="text", found="is empty", remedy="fill it in")


def test_each_value_once_in_the_order_of_the_rows():
    found = once_a_value(
        [typo(2), empty(3), typo(4, "並"), typo(5), empty(6), *(typo(i) for i in range(7, 13))]
    )
    assert [(p.where, p.field) for p in found] == [
        ("a.csv:2", "category"),
        ("a.csv:3", "text"),
        ("a.csv:4", "category"),
        ("a.csv:6", "text"),
    ]
    assert found[0].found == (
        "'普通' is not a category, here and in 7 more rows (a.csv:5, a.csv:7, a.csv:8, a.csv:9 and 3 others)"
    )
    assert found[2].found == "'並' is not a category"
    assert found[1].found == "is empty"


def test_what_is_alone_stays_as_it_is():
    problems = [typo(2), empty(2), empty(2)]
    assert once_a_value(problems[:2]) == problems[:2]
    assert once_a_value([typo(1), typo(9)])[0].found.endswith("here and in 1 more row (a.csv:9)")


def test_a_problem_of_a_file_that_is_read_twice_is_one():
    problem = Problem(
        where="bank.csv", field="question", found="there is no column 'question'", remedy="name it"
    )
    assert once_a_value([problem, problem]) == [problem]
