"""So much in a minute, evenly refilled. Pure: the time is given."""

from __future__ import annotations

MINUTE = 60.0


class Bucket:
    """Holds a minute's worth; what is taken flows back at the same pace.

    It may be overdrawn: what an answer took is known only when it has ended.
    """

    __slots__ = ("_at", "_left", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute, self._left, self._at = per_minute, float(per_minute), now

    def left(self, now: float) -> float:
        """Below zero when overdrawn."""
        if now > self._at:
            self._left = min(float(self.per_minute), self._left + (now - self._at) * self.per_minute / MINUTE)
            self._at = now
        return self._left

    def take(self, amount: float, now: float) -> None:
        self._left = self.left(now) - amount

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is in it; 0.0 when it is. More than it can hold counts as all that it holds."""
        lacking = min(amount, float(self.per_minute)) - self.left(now)
        return max(lacking, 0.0) * MINUTE / self.per_minute

    def refill(self, now: float) -> float:
        """Seconds until it is full."""
        return self.wait(self.per_minute, now)
