"""What waits in the computer's memory: within all rooms, where it saves something, if copies keep up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenbin.bench_sizes import MODELS
from tenbin.decoder.host import HELD
from tenbin.memory import ALL, ATTENTION, AWAY, HOST, INPUT, MIB, Away, KeepLevels, plan_training
from tenbin.memory_away import BYTES_PER_OPERATION, LEAST_OPERATIONS
from tenbin.models.shape import ModelShape

GIB = 2**30


def planned(model, tokens, host_gib, base="same", cap_mib=46000):
    return plan_training(
        ModelShape.read(MODELS[model]),
        rank=16,
        most_tokens=tokens,
        dtype_bytes=2,
        cap_bytes=cap_mib * MIB,
        decode_tokens=0,
        gpu=True,
        base=base,
        host_bytes=host_gib * GIB,
    )


def passed(levels, tokens):
    """The most bytes that the blocks hold in a forward and backward pass, walked through block by block."""
    chosen = levels.choose(tokens)
    each = [levels.token_bytes[level] * tokens for level in chosen]
    moves = [levels.away_bytes * tokens if level == AWAY else 0 for level in chosen]
    held, most, going = 0, 0, None
    for i in range(len(chosen)):
        held += each[i] + moves[i]  # made on the device
        most = max(most, held)
        if moves[i] or (going is not None and i - going >= HELD):
            held -= moves[going] if going is not None else 0
            going = i if moves[i] else None
    held -= moves[going] if going is not None else 0
    coming = set()
    for i in reversed(range(len(chosen))):
        for wanted in (i, i - 1):
            if wanted >= 0 and wanted not in coming:
                coming.add(wanted)
                held += moves[wanted]
        most = max(most, held)
        held -= each[i] + moves[i]
    assert held == 0
    return most


CASES = [
    ("7b", 8192, "same"),
    ("7b", 16384, "same"),
    ("7b", 32768, "same"),
    ("7b", 32768, "fp8"),
    ("7b", 65536, "same"),
    ("13b", 4096, "same"),
    ("13b", 8192, "fp8"),
    ("13b", 16384, "same"),
    ("13b", 32768, "same"),
    ("gpt2-13b", 8192, "same"),
]


@pytest.mark.parametrize("host_gib", [1, 8, 24, 200])
@pytest.mark.parametrize(("model", "tokens", "base"), CASES)
def test_both_rooms_hold_and_less_is_made_twice(model, tokens, base, host_gib):
    plan, without = (planned(model, tokens, gib, base) for gib in (host_gib, 0))
    levels = plan.levels
    chosen = levels.choose(tokens)
    assert plan.fits
    assert passed(levels, tokens) <= levels.kept_bytes(tokens)
    assert levels.kept_bytes(tokens) + levels.beside_bytes(tokens) <= levels.room_bytes
    away = chosen.count(AWAY) * levels.away_bytes * tokens
    assert away <= host_gib * GIB
    assert plan.host_bytes >= away
    assert plan.host_bytes <= host_gib * GIB or AWAY not in chosen
    before = without.levels.choose(tokens)
    assert AWAY not in before
    assert levels.repeated(tokens, chosen) <= levels.repeated(tokens, before)
    if AWAY in chosen:
        assert levels.repeated(tokens, chosen) < levels.repeated(tokens, before)
        assert "the computer's memory" in levels.describe(tokens)


def test_what_fits_stays():
    for tokens in (512, 4096, 8192):
        assert set(planned("7b", tokens, 64).levels.choose(tokens)) == {ALL}


def test_long_rows_make_hardly_anything_twice():
    """7B, 32,768 tokens: of 31 blocks that would make the wide products twice, two thirds do not."""
    chosen = planned("7b", 32768, 64).levels.choose(32768)
    assert chosen.count(AWAY) >= 20
    assert min(chosen) >= ATTENTION


def test_no_more_leaves_than_is_copied_during_a_forward_pass():
    plan = planned("7b", 32768, 1000)
    shape, levels = ModelShape.read(MODELS["7b"]), plan.levels
    linear = 2 * shape.params_by_part()["linear"] * 32768
    attention = 2 * shape.q_size * 32768**2 * shape.num_layers
    count = levels.choose(32768).count(AWAY)
    assert count == levels.away.most(32768, 32, levels.away_bytes)
    each = levels.away_bytes * 32768
    assert count * each <= BYTES_PER_OPERATION * (linear + attention) < (count + 1) * each


def test_rows_that_a_graph_launches_faster_do_not_leave():
    levels = planned("13b", 4096, 64).levels
    away = levels.away
    fewest = next(n for n in range(1, 10_000) if away.most(n, 40, levels.away_bytes))
    assert away.token_operations * fewest > 0.9 * LEAST_OPERATIONS
    assert fewest < 4096


def test_without_a_gpu_or_room_nothing_leaves():
    assert planned("7b", 32768, 0).levels.away is None
    plan = planned("7b", 32768, 1)
    assert AWAY not in plan.levels.choose(32768)  # one block's are 2 GiB
    assert plan.host_bytes == 0


def test_inputs_are_counted_too_where_they_are_the_last_resort():
    plan = planned("7b", 131072, 0)
    assert plan.host_bytes == plan.levels.choose(131072).count(HOST) * 131072 * 4096 * 2


LEVELS = st.builds(
    lambda room, host, layers, moves: KeepLevels(
        num_layers=layers,
        token_bytes=(1, 10, 40, 40 + moves // 2, 40 + moves, 40),
        room_bytes=room,
        transient_bytes=30,
        wide_bytes=20,
        away=Away(
            room_bytes=host,
            token_operations=10**9,
            key_operations=0,
            repeated=(900, 900, 500, 300, 0),
            repeats_attention=(True, True, False, False, False),
        ),
    ),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(3, 20),
    st.integers(2, 300),
)


@given(LEVELS, st.integers(1000, 5000))
def test_any_levels_stay_in_their_rooms(levels, tokens):
    chosen = levels.choose(tokens)
    assert passed(levels, tokens) <= levels.kept_bytes(tokens)
    assert levels.host_bytes(tokens) <= levels.away.room_bytes or AWAY not in chosen
    assert levels.fits(tokens, chosen) or AWAY not in chosen
    plain = replace(levels, away=None).choose(tokens)
    assert levels.repeated(tokens, chosen) <= levels.repeated(tokens, plain)
    assert not {AWAY} & set(chosen[-2:])


@given(LEVELS, st.integers(1000, 5000))
def test_giving_up_ends(levels, tokens):
    for _ in range(500):
        less = levels.less(tokens)
        if less is None:
            break
        levels = less
    assert set(levels.choose(tokens)) <= {HOST, INPUT}
