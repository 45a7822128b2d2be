"""What a line says of the plan and of the pass that corrected it, of figures made up in bytes."""

from dataclasses import replace

from tenbin.bench_memory import counts, planned_figures
from tenbin.memory import ALL, HOST, INPUT, LEVEL_NAMES, MIB, KeepLevels, MemoryPlan
from tenbin.train.probe import Probe
from tenbin.train.room import Room

TOKENS, LONGEST = 100, 128
TOKEN = MIB // TOKENS + 1
"""Bytes of a level: some more than 1 MiB a block at TOKENS tokens."""
LEVELS = KeepLevels(
    num_layers=3,
    token_bytes=tuple(TOKEN * level for level in range(len(LEVEL_NAMES))),
    room_bytes=2**40,
    transient_bytes=0,
    wide_bytes=0,
)
TERMS = {"weights": 50 * MIB, "activations": 0, "working": 0, "logits": 0, "kv_cache": 0}
FIRST = replace(LEVELS, fixed=(HOST, INPUT, ALL))


def plan(levels, most_tokens=LONGEST):
    return MemoryPlan(terms=TERMS, cap_bytes=2**40, most_tokens=most_tokens, levels=levels)


def counted(*levels):
    return "/".join(str(levels.count(level)) for level in range(len(LEVEL_NAMES)))


def test_blocks_are_counted_by_level():
    assert counts(FIRST, TOKENS) == counted(HOST, INPUT, ALL)
    assert counts(LEVELS, TOKENS) == counted(ALL, ALL, ALL)
    assert len(counts(LEVELS, TOKENS).split("/")) == len(LEVEL_NAMES)


def test_each_figure_is_of_the_levels_it_says():
    """The plan of the longest row; of the pass, plan and measurement; of the steps, what is kept since."""
    probed = Probe(
        num_tokens=TOKENS,
        predicted_bytes=60 * MIB,
        measured_bytes=58 * MIB,
        before=FIRST,
        after=LEVELS,
        plan=plan(FIRST).corrected(2 * MIB, LEVELS),
    )
    room = Room(LONGEST, LEVELS, largest=TOKENS)
    found = planned_figures(plan(FIRST), probed, room)
    assert found == {
        "planned_mib": round(50 + (INPUT + ALL) * TOKEN * LONGEST / MIB),
        "predicted_mib": 60,
        "probed_mib": 58,
        "probed_kept": counted(HOST, INPUT, ALL),
        "corrected_mib": 50 - 2 + 3 * ALL,
        "kept": counted(ALL, ALL, ALL),
        "host_mib": 0,
        "turned": False,
    }
    room.levels = FIRST  # given up again in a step
    found = planned_figures(plan(FIRST), probed, room)
    assert found["corrected_mib"] == 50 - 2 + INPUT + ALL
    assert found["kept"] == counted(HOST, INPUT, ALL)
    assert found["host_mib"] == INPUT  # one block's input


def test_where_nothing_was_measured_only_the_plan_is_known():
    found = planned_figures(plan(LEVELS), None, Room(LONGEST, LEVELS))
    assert found["planned_mib"] == round(50 + 3 * ALL * TOKEN * LONGEST / MIB)
    assert [key for key, value in found.items() if value is None] == [
        "predicted_mib",
        "probed_mib",
        "probed_kept",
        "corrected_mib",
    ]
