"""Spending: one purse for hosted models, which is never opened further than its limit."""

import threading

from tenbin.config_hosted import Money
from tenbin.generate.hosted.prices import Prices


class Spending:
    """What hosted models have cost, what the calls in flight may still cost, and the most that is allowed.

    Shared by every model of a study; safe to use from several threads. What earlier processes spent in the
    same study folder counts too.
    """

    def __init__(self, limit: Money | None, prices: Prices) -> None:
        self.limit = limit
        self.limit_usd = None if limit is None else prices.usd(limit)
        self._spent: dict[str, float] = {}
        self._reserved = 0.0
        self._lock = threading.Lock()

    @property
    def spent_usd(self) -> float:
        """Dollars of all answers, and of calls that may have been billed without an answer."""
        with self._lock:
            return sum(self._spent.values())

    def begin(self, account: str, usd: float) -> None:
        """Say what an account has spent so far, as its store knows it."""
        with self._lock:
            self._spent[account] = usd

    def reserve(self, usd: float) -> bool:
        """Keep the most a call may cost aside; False where that could pass the limit."""
        with self._lock:
            total = sum(self._spent.values()) + self._reserved + usd
            if self.limit_usd is not None and total > self.limit_usd:
                return False
            self._reserved += usd
            return True

    def settle(self, account: str, reserved: float, usd: float) -> None:
        """Give a reservation back and book what the call cost."""
        with self._lock:
            self._reserved -= reserved
            self._spent[account] = self._spent.get(account, 0.0) + usd

    def __repr__(self) -> str:
        limit = "no limit" if self.limit is None else f"at most {self.limit}"
        return f"Spending(${self.spent_usd:.4f}, {limit})"
