"""A worker that comes and goes: each time it is kept out for longer, so that it loses no more requests.

Three times it may go down and be back at once, as after restarts. Who was in rotation for some minutes begins anew.
Pure: every transition is given the time, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FREE = 3  # times that nothing follows from
FIRST = 30.0  # seconds that it is kept out then; each time twice as long
LONGEST = 600.0
STEADY = 300.0  # seconds in rotation after which what was before is forgotten


@dataclass(frozen=True, slots=True)
class Flapping:
    times: int = 0  # it went down, without having been steady in between
    until: float = 0.0  # it is in rotation from then on

    def went(self, now: float) -> Flapping:
        """It went down."""
        return replace(self, times=1 if now - self.until >= STEADY else self.times + 1)

    def came(self, now: float) -> Flapping:
        """It answers again."""
        pause = min(FIRST * 2.0 ** (self.times - FREE - 1), LONGEST) if self.times > FREE else 0.0
        return replace(self, until=now + pause)

    def left(self, now: float) -> float:
        """Seconds that it is still kept out."""
        return max(0.0, self.until - now)
