"""How much is listened to: floods, from one address or from forged ones, cost a bounded time and memory. Pure."""

from __future__ import annotations

EACH = 20  # datagrams a second of one address
ALL = 500  # of all
SOURCES = 1024  # addresses that are told apart in a second


class Damper:
    def __init__(self) -> None:
        self.ignored = 0
        self._second = -1
        self._count: dict[str, int] = {}
        self._total = 0

    def allows(self, source: str, now: float) -> bool:
        """Whether one more datagram is read. now: a clock's seconds."""
        if int(now) != self._second:
            self._second, self._total = int(now), 0
            self._count.clear()
        self._total += 1
        known = self._count.get(source, 0)
        if self._total > ALL or known >= EACH or (not known and len(self._count) >= SOURCES):
            self.ignored += 1
            return False
        self._count[source] = known + 1
        return True
