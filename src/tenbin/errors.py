"""Every error tenbin raises on purpose, and how a list of problems is shown.

    TenbinError
    ├── UserError          something the user can mend: exit code 2
    │   ├── ConfigError    the study file
    │   ├── DataError      rows of a data file
    │   ├── ModelError     a model, tokenizer or adapter
    │   ├── BudgetError    does not fit the memory that is allowed
    │   ├── CostError      the next call could pass the money that is allowed
    │   └── MissingExtra   an optional dependency is not installed
    ├── StorageError       disk full, run folder not writable: exit code 2
    └── Interrupted        Ctrl-C, with how to go on: exit code 130

A mistake of tenbin itself is an `assert` or a plain exception and shows a traceback.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it is, and what to do about it."""

    where: str
    """File and place in it: `reviews.csv:17`, `book.xlsx[Sheet1]!B4`, `study.toml: training.epochs`."""
    found: str
    """What is wrong, with the value found."""
    remedy: str
    """What the user can do."""
    field: str | None = None

    def __str__(self) -> str:
        field = f" [{self.field}]" if self.field else ""
        return f"{self.where}{field}: {self.found}\n    -> {self.remedy}"


class TenbinError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 2


class UserError(TenbinError):
    """Something the user can mend; carries every problem found, not only the first."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        assert self.problems, "a UserError needs at least one problem"
        super().__init__(self.render())

    def render(self, limit: int = MAX_SHOWN) -> str:
        """The problems as text, at most `limit` of them, then how many more there are."""
        shown = [str(problem) for problem in self.problems[:limit]]
        more = len(self.problems) - limit
        if more > 0:
            shown.append(f"... and {more} more")
        return "\n".join(shown)


class ConfigError(UserError):
    """The study file is not right."""


class DataError(UserError):
    """Rows of a data file are not right."""


class ModelError(UserError):
    """A model, tokenizer or adapter cannot be used."""


class BudgetError(UserError):
    """The work does not fit the memory that is allowed."""


class CostError(UserError):
    """The next call to a hosted model could pass the money that is allowed."""


class MissingExtra(UserError):
    """An optional dependency is not installed."""


class StorageError(UserError):
    """The disk is full or a folder cannot be written."""


class Interrupted(TenbinError):
    """Stopped by the user; what is finished is kept."""

    exit_code = 130
