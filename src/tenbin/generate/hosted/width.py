"""Width: how many calls may be on their way at once, between one and the study's limit.

The first call goes alone: a wrong key or address costs one call, not many. Then all may go. A refusal for
going too fast (HTTP 429) halves the number, every answer adds its share of one, as TCP does it (Jacobson,
"Congestion avoidance and control", 1988): a small quota ends in few calls at a time, not in many refusals.
"""


class Width:
    """Counts calls out and in; used from one thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sent = 0
        """Calls on their way."""
        self._allowed = 1.0
        self._open = False
        self._halvings = 0

    @property
    def has_room(self) -> bool:
        """Whether one more call may be sent."""
        return self.sent < int(self._allowed)

    def send(self) -> int:
        """Count a call out; gives what `back` wants to know of it."""
        self.sent += 1
        return self._halvings

    def back(self, mark: int, *, refused: bool) -> None:
        """Count a call in.

        Args:
            mark: of the call's `send`. Calls that were sent before the last halving do not halve again.
            refused: whether it was refused for going too fast.
        """
        self.sent -= 1
        if refused and mark == self._halvings:
            self._allowed = max(1.0, self._allowed / 2)
            self._halvings += 1
        elif not refused and not self._open:
            self._allowed = float(self.most)
        elif not refused:
            self._allowed = min(float(self.most), self._allowed + 1 / self._allowed)
        self._open = True
