"""Room shrinks step by step, never below what the result allows, and ends."""

from hypothesis import given
from hypothesis import strategies as st

from tenbin.decoder.block import Keep
from tenbin.memory import HOST, KeepLevels
from tenbin.train.room import Room


def levels(room_bytes, layers=4):
    return KeepLevels(
        num_layers=layers,
        token_bytes=(10, 100, 400, 700, 1500),
        room_bytes=room_bytes,
        transient_bytes=300,
        wide_bytes=200,
    )


def test_micro_batches_shrink_first_down_to_the_longest_example():
    room = Room(1000, levels(2**40), longest=300)
    assert room.shrink(1000) == "micro-batches of at most 500 tokens"
    assert room.shrink(500) == "micro-batches of at most 300 tokens"
    assert room.levels == levels(2**40)  # everything is kept
    assert room.shrink(300).startswith("less kept for the backward pass: blocks: ")
    assert room.most_tokens == 300
    assert room.levels != levels(2**40)


def test_without_levels_only_micro_batches_shrink():
    room = Room(1000, longest=400)
    assert room.keep(1000) is None
    assert room.shrink(1000)
    assert room.shrink(500)
    assert room.shrink(400) is None


def test_what_is_kept_is_named_by_level():
    assert Room(10, levels(2**40)).keep(10) == [Keep.ALL] * 4
    assert Room(10, levels(-1)).keep(10) == [Keep.HOST] * 4


@given(st.integers(1, 2000), st.integers(1, 3000), st.integers(0, 2**33))
def test_shrinking_ends_where_nothing_is_kept(most_tokens, longest, room_bytes):
    room = Room(most_tokens, levels(room_bytes), longest=longest)
    for _ in range(2000):
        row = max(room.most_tokens, longest)
        before = room.most_tokens, room.levels.kept_bytes(row)
        if room.shrink(row) is None:
            break
        assert (room.most_tokens, room.levels.kept_bytes(row)) < before
    assert room.most_tokens <= max(longest, most_tokens)
    assert set(room.levels.choose(max(room.most_tokens, longest))) == {HOST}


def test_weights_in_both_orders_need_room_beside_the_longest_example():
    """One that is longer than a micro-batch has one of its own."""
    levels = KeepLevels(
        num_layers=2,
        token_bytes=(0, 10, 20, 30, 40),
        room_bytes=10_000,
        transient_bytes=0,
        wide_bytes=0,
        turned_bytes=5_000,
    )
    assert Room(50, levels).turns()
    assert Room(50, levels, longest=60).turns()
    assert not Room(50, levels, longest=70).turns()
    assert not Room(70, levels).turns()
