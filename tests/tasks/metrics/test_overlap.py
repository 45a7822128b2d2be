from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tenbin.tasks.metrics.overlap import f1, lcs_length, num_shared

texts = st.text(alphabet="abcd", max_size=80)


def table_lcs(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(before[j + 1], row[j])
    return row[-1]


@given(texts, texts)
def test_bit_parallel_lcs_equals_the_table(a, b):
    assert lcs_length(a, b) == table_lcs(a, b)


@given(texts, texts)
def test_clipped_counts_equal_the_counters(a, b):
    assert num_shared(a, b) == (Counter(a) & Counter(b)).total()


@given(st.permutations("abcdefgh"), texts)
def test_where_one_side_repeats_nothing_too(a, b):
    assert num_shared(a, b) == num_shared(b, a) == (Counter(a) & Counter(b)).total()


def test_f1_of_nothing_shared_is_0():
    assert f1(0, 0, 3) == 0.0
    assert f1(2, 4, 2) == 2 * 0.5 / 1.5
