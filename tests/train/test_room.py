"""Room shrinks step by step, never below what the result allows, and ends."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tenbin.decoder.block import Keep
from tenbin.memory import AWAY, HOST, Away, KeepLevels
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
    assert room.shrink() == "micro-batches of at most 500 tokens"
    assert room.shrink() == "micro-batches of at most 300 tokens"
    assert room.levels == levels(2**40)  # everything is kept
    assert room.shrink().startswith("less kept for the backward pass: blocks: ")
    assert room.most_tokens == 300
    assert room.levels != levels(2**40)


def test_where_blocks_compute_again_the_room_gets_smaller_first():
    """A smaller micro-batch would keep more of each token and hold as much."""
    room = Room(1000, levels(4_000_000), longest=300)
    before = room.levels.choose(1000)
    assert max(before) > Keep.INPUT
    assert min(before) < Keep.ALL
    held = [room.levels.kept_bytes(1000)]
    while max(room.levels.choose(1000)) > Keep.INPUT:
        assert room.shrink().startswith("less kept for the backward pass: blocks: ")
        assert room.most_tokens == 1000
        held.append(room.levels.kept_bytes(1000))
    assert held == sorted(set(held), reverse=True)
    assert room.shrink() == "micro-batches of at most 500 tokens"


def test_smaller_micro_batches_are_smaller_than_those_there_were():
    """Steps of 16 short examples never fill a micro-batch of 8,192 tokens."""
    room = Room(8192, levels(2**40), longest=100)
    room.keep(600)
    assert room.shrink() == "micro-batches of at most 300 tokens"
    assert room.shrink() == "micro-batches of at most 150 tokens"


def test_a_row_as_long_as_the_longest_example_only_keeps_less():
    room = Room(8192, levels(2**40), longest=900)
    room.keep(600)
    assert room.shrink().startswith("less kept")
    assert room.most_tokens == 8192


def turning(room_bytes=10_000):
    return KeepLevels(
        num_layers=2,
        token_bytes=(0, 10, 20, 30, 40),
        room_bytes=room_bytes,
        transient_bytes=0,
        wide_bytes=0,
        turned_bytes=5_000,
    )


def test_weights_in_both_orders_go_first_and_do_not_come_back():
    room = Room(50, turning(), longest=10)
    assert room.turns()
    assert room.shrink() == "weights of 8 bits in one order only"
    assert not room.turns()
    assert room.shrink() == "micro-batches of at most 25 tokens"
    assert not room.turns()


def test_smaller_micro_batches_do_not_bring_weights_in_both_orders():
    """There would be room for them then, where there has just been too little."""
    room = Room(70, turning(), longest=10)
    assert not room.turns()
    assert room.shrink() == "micro-batches of at most 35 tokens"
    assert turning().turns(35)
    assert not room.turns()


WAITING = Away(
    room_bytes=10**9,
    token_operations=10**10,
    key_operations=0,
    repeated=(9, 9, 5, 3, 0),
    repeats_attention=(True, True, False, False, False),
)


def test_products_in_the_computers_memory_come_back_before_rows_are_made_shorter():
    """It may be the computer's memory that is short; without them everything is computed as before."""
    kept = replace(levels(9_000_000, layers=12), token_bytes=(10, 100, 400, 700, 1500, 400))
    room = Room(1000, replace(kept, away=WAITING), longest=300)
    assert AWAY in room.keep(1000)
    assert room.shrink().startswith("no products in the computer's memory: blocks: ")
    assert room.levels == kept
    assert room.most_tokens == 1000
    assert room.shrink().startswith("less kept")


def test_levels_that_were_asked_for_are_given_up_where_they_leave_something():
    kept = replace(levels(9_000_000, layers=12), token_bytes=(10, 100, 400, 700, 1500, 400))
    room = Room(1000, replace(kept, away=WAITING, fixed=(AWAY,) * 12), longest=300)
    assert room.shrink().startswith("no products in the computer's memory: blocks: ")
    assert AWAY not in room.keep(1000)


def test_room_of_the_computer_that_nobody_uses_is_given_up_without_a_word():
    room = Room(1000, replace(levels(2**40), away=WAITING), longest=300)
    assert room.shrink() == "micro-batches of at most 500 tokens"
    assert room.levels == levels(2**40)


def test_graphs_are_first_fewer_and_then_none():
    kept = levels(4_000_000)
    room = Room(1000, kept, longest=300)
    assert all(room.records(n) for n in (10, 300, 1000))
    assert room.spare_graphs() == "CUDA graphs only of rows that leave room for any other beside them"
    room.levels = replace(kept, room_bytes=kept.kept_bytes(1000) + kept.beside_bytes(1000) + 100_000)
    assert room.records(10)
    assert not room.records(1000)
    for n in range(1, 1000, 13):
        held = [room.levels.kept_bytes(t) + room.levels.beside_bytes(t) for t in (n, 1000)]
        assert room.records(n) == (sum(held) <= room.levels.room_bytes)
    assert room.replays
    assert room.spare_graphs() == "no CUDA graphs, which hold on to memory"
    assert not any(room.records(n) for n in (1, 10, 1000))


def test_graphs_leave_room_for_the_largest_row_there_was():
    """Steps of short examples never fill a micro-batch: it is not that which has to fit."""
    kept = levels(4_000_000)
    room = Room(1000, kept, sparing=True)
    room.keep(100)
    assert room.records(100)
    room.keep(900)
    assert not room.records(900)


def test_without_a_cap_there_are_graphs_or_none():
    room = Room(1000)
    assert room.records(1000)
    room.spare_graphs()
    assert not room.replays
    assert not room.records(1)


def test_weights_in_both_orders_are_counted_once_beside_graphs():
    room = Room(50, turning(20_000), sparing=True)
    assert room.turns()
    assert room.records(50)
    assert Room(50, turning(10_000), sparing=True).records(10)
    assert not Room(50, turning(10_000), sparing=True).records(50)


def test_without_levels_only_micro_batches_shrink():
    room = Room(1000, longest=400)
    assert room.keep(1000) is None
    assert room.shrink()
    assert room.shrink()
    assert room.shrink() is None


def test_what_is_kept_is_named_by_level():
    assert Room(10, levels(2**40)).keep(10) == [Keep.ALL] * 4
    assert Room(10, levels(-1)).keep(10) == [Keep.HOST] * 4


@given(st.integers(1, 2000), st.integers(1, 3000), st.integers(0, 2**33))
def test_shrinking_ends_where_nothing_is_kept(most_tokens, longest, room_bytes):
    room = Room(most_tokens, levels(room_bytes), longest=longest)
    for _ in range(2000):
        row = max(room.most_tokens, longest)
        before = room.most_tokens, room.levels.kept_bytes(row)
        if room.shrink() is None:
            break
        assert (room.most_tokens, room.levels.kept_bytes(row)) < before
    assert room.most_tokens <= max(longest, most_tokens)
    assert set(room.levels.choose(max(room.most_tokens, longest))) == {HOST}


def test_weights_in_both_orders_need_room_beside_the_longest_example():
    """One that is longer than a micro-batch has one of its own."""
    assert Room(50, turning()).turns()
    assert Room(50, turning(), longest=60).turns()
    assert not Room(50, turning(), longest=70).turns()
    assert not Room(70, turning()).turns()
