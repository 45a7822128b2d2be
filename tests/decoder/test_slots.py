"""Places in the cache: neighbours, first fit, and everything comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.decoder.slots import Slots


def test_the_first_gap_that_is_long_enough_is_taken():
    slots = Slots(10)
    assert [slots.take(n) for n in (3, 2, 4)] == [0, 3, 5]
    assert slots.take(2) is None
    slots.give_back(0, 3)
    slots.give_back(5, 4)
    assert slots.free == 8
    assert slots.take(4) == 5  # the gap of 3 before it is too short; 5 to 9 are one again
    assert slots.take(3) == 0


def test_what_was_not_taken_cannot_be_given_back():
    slots = Slots(10)
    slots.take(5)
    with pytest.raises(AssertionError):
        slots.give_back(4, 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12), st.integers(0, 20)), max_size=60))
def test_no_slot_is_given_twice_and_gaps_join(steps):
    slots, held = Slots(30), []
    for take, length, which in steps:
        if take:
            start = slots.take(length)
            taken = {s for a, n in held for s in range(a, a + n)}
            free = [s for s in range(30) if s not in taken]
            runs = [s for s in free if all(s + i in free for i in range(length))]
            assert start == (runs[0] if runs else None)
            if start is not None:
                held.append((start, length))
        elif held:
            slots.give_back(*held.pop(which % len(held)))
        assert slots.free == 30 - sum(n for _, n in held)
    for start, length in held:
        slots.give_back(start, length)
    assert slots.take(30) == 0
