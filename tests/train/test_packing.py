"""Packing lays every example down once, with the right targets, and never changes the batch."""

from hypothesis import given
from hypothesis import strategies as st

from tenbin.models.encode import Encoded
from tenbin.train.packing import micro_batches, pack


def test_targets_are_the_tokens_after_the_prompt():
    batch = pack([Encoded((5, 6), (7, 8)), Encoded((9,), (10,))], "response")
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.segments.offsets == (0, 4, 6)
    assert batch.predicts.tolist() == [1, 2, 4]
    assert batch.labels.tolist() == [7, 8, 10]


def test_loss_on_all_takes_every_token_but_the_first_of_each():
    batch = pack([Encoded((5, 6), (7, 8)), Encoded((9,), (10,))], "all")
    assert batch.predicts.tolist() == [0, 1, 2, 4]
    assert batch.labels.tolist() == [6, 7, 8, 10]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_every_example_is_in_one_micro_batch(lengths, most):
    rows = micro_batches(lengths, most)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= most for row in rows)
