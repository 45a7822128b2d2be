"""Problems that come again: one mistyped category in many rows is one thing to mend."""

from collections.abc import Sequence
from dataclasses import replace

from tenbin.errors import Problem

NOT_A_CATEGORY = "is not a category"
MAX_PLACES = 4
"""Places of the further rows that are named."""


def once_a_value(problems: Sequence[Problem]) -> list[Problem]:
    """The problems with each unknown category once, at its first row, and where else it stands.

    Rows of other problems stay apart: each of them is mended by itself.
    """
    places: dict[Problem, dict[str, None]] = {}  # one file may be read for two sets: each place once
    for problem in problems:
        alike = replace(problem, where="") if problem.found.endswith(NOT_A_CATEGORY) else problem
        places.setdefault(alike, {})[problem.where] = None
    return [
        replace(alike, where=first, found=alike.found + _others(others))
        for alike, (first, *others) in places.items()
    ]


def _others(places: Sequence[str]) -> str:
    if not places:
        return ""
    named = ", ".join(places[:MAX_PLACES])
    more = len(places) - MAX_PLACES
    rows = "1 more row" if len(places) == 1 else f"{len(places):,} more rows"
    return f", here and in {rows} ({named}{f' and {more:,} others' if more > 0 else ''})"
