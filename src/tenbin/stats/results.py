"""What statistics return beside `Estimate`: a test, an agreement, and a number that does not exist."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Undefined:
    """A number that does not exist for these data, and why. Never written as 0 or NaN."""

    reason: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One two-sided test of "the two systems do not differ"."""

    __test__: ClassVar[bool] = False  # pytest would take it for a class of tests

    p_value: float
    difference: float
    """First system minus second, on the scale of the scores."""
    n: int
    """Examples (or groups, where groups are what is independent) the test rests on."""
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far raters agree beyond chance: 1 = always, 0 = as chance would, below 0 = less than that."""

    value: float
    num_items: int
    """Items that counted: rated by two raters or more."""
    method: str
