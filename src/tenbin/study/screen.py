"""Screen: what a study shows while it works. The terminal has one; a notebook or a test may stay silent."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One progress bar."""

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` of the total are finished."""
        ...


class Screen(Protocol):
    """Where a study writes."""

    def say(self, text: str) -> None:
        """One line of news."""
        ...

    def stage(self, title: str) -> None:
        """A new part of the work begins."""
        ...

    def bar(self, label: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A progress bar with an estimate of the time left."""
        ...


class SilentScreen:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def stage(self, title: str) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar that shows nothing."""
        yield SilentBar()


class SilentBar:
    """Shows nothing."""

    def update(self, done: int, note: str = "") -> None:
        """Nothing."""
