"""What a line of a training bench says of memory: the plan, the pass that corrected it, what blocks keep."""

from dataclasses import replace

from tenbin.memory import LEVEL_NAMES, MIB, KeepLevels, MemoryPlan
from tenbin.train.probe import Probe
from tenbin.train.room import Room


def planned_figures(plan: MemoryPlan, probed: Probe | None, room: Room) -> dict[str, int | str | bool | None]:
    """What the plan said, and what a measured pass made of it; without one some are None.

    Args:
        plan: before the measurement.
        room: after the steps.

    Returns:
        planned_mib: of the longest row that may come, with the plan's own levels;
        predicted_mib, probed_mib: plan and measurement of one pass, whose blocks kept `probed_kept`;
        corrected_mib: the corrected plan with what blocks keep in the steps, to compare the peak with;
        kept, host_mib, turned: what they keep then, see `counts`, what of it waits in the computer's memory,
        and whether weights are held in both orders.
    """
    assert room.levels is not None, "a bench has a plan"
    passed = dict.fromkeys(("predicted_mib", "probed_mib", "probed_kept", "corrected_mib"))
    if probed is not None:
        corrected = replace(probed.plan, levels=room.levels)
        passed |= {
            "predicted_mib": round(probed.predicted_bytes / MIB),
            "probed_mib": round(probed.measured_bytes / MIB),
            "probed_kept": counts(probed.before, probed.num_tokens),
            "corrected_mib": round(corrected.training_bytes(probed.num_tokens) / MIB),
        }
    return {
        "planned_mib": round(plan.training_bytes(plan.most_tokens) / MIB),
        **passed,
        "kept": counts(room.levels, room.largest),
        "host_mib": round(room.levels.host_bytes(room.largest) / MIB),
        "turned": room.turns(),
    }


def counts(levels: KeepLevels, num_tokens: int) -> str:
    """`0/0/0/2/38/0`: how many blocks keep each of LEVEL_NAMES of a row of so many tokens."""
    chosen = levels.choose(num_tokens)
    return "/".join(str(chosen.count(level)) for level in range(len(LEVEL_NAMES)))
