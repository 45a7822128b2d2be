"""Pace: when the next call may be sent, so that a minute holds no more requests and tokens than allowed."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S = 60.0


@dataclass(slots=True)
class Turn:
    """One call's place in the minute."""

    time_s: float
    tokens: int


class Pace:
    """Spaces calls evenly (services count requests over seconds, not minutes) and keeps the tokens of any 60
    seconds within the budget: an estimate before the call, what the service counted after it.

    Used from one thread at a time; whoever calls waits as long as `due_s` says.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens_per_minute = tokens_per_minute
        self.space_s = MINUTE_S / requests_per_minute if requests_per_minute else 0.0
        self._clock = clock
        self._next_s = -float("inf")
        self._paused_until_s = -float("inf")
        self._turns: deque[Turn] = deque()

    def pause(self, seconds: float) -> None:
        """Let no call begin for so long: the service asked everybody to wait."""
        self._paused_until_s = max(self._paused_until_s, self._clock() + seconds)

    def due_s(self, tokens: int) -> float:
        """Seconds until a call of so many tokens may begin; 0 = now.

        A call of more tokens than a minute may hold begins when nothing else is in its minute: the estimate
        may be too high, and if it is not, the service says so.
        """
        now = self._clock()
        while self._turns and self._turns[0].time_s <= now - MINUTE_S:
            self._turns.popleft()
        due = max(self._next_s, self._paused_until_s)
        if self.tokens_per_minute is not None:
            over = sum(turn.tokens for turn in self._turns) + tokens - self.tokens_per_minute
            for turn in self._turns:
                if over <= 0:
                    break
                over -= turn.tokens
                due = max(due, turn.time_s + MINUTE_S)
        return max(0.0, due - now)

    def take(self, tokens: int) -> Turn:
        """Take the place of a call that begins now."""
        turn = Turn(self._clock(), tokens)
        self._turns.append(turn)
        self._next_s = turn.time_s + self.space_s
        return turn

    @staticmethod
    def correct(turn: Turn, tokens: int) -> None:
        """Put what the service counted in the place of the estimate."""
        turn.tokens = tokens
