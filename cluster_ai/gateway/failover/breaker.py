"""A circuit breaker: a worker that fails at requests, though it answers checks, gets none for a while.

    closed    faults in a row are counted
    open      no request, until a pause has passed
    half_open one request tries whether it is well again

Pure: every transition is given the time, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

FAULTS = 3  # in a row open it
WINDOW = 30.0  # seconds within which they must come
PAUSE = 5.0  # seconds of the first opening; each that follows a failed probe is twice as long
LONGEST = 60.0
PROBE = 120.0  # seconds after which a probe of which nothing was heard makes place for another
RAMP = 10.0  # seconds in which a worker that is back gets its slots one after the other


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    faults: int = 0  # in a row
    since: float = 0.0  # of the first of them
    opened: float | None = None
    pause: float = PAUSE
    probe: float | None = None  # when the last one was sent
    reason: str = ""  # of the last fault

    def state(self, now: float) -> State:
        if self.opened is None:
            return State.CLOSED
        return State.OPEN if now < self.opened + self.pause else State.HALF_OPEN

    def admits(self, now: float) -> bool:
        match self.state(now):
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                return self.probe is None or now >= self.probe + PROBE

    def sent(self, now: float) -> Breaker:
        """A request goes there."""
        return replace(self, probe=now) if self.state(now) is State.HALF_OPEN else self

    def unsent(self) -> Breaker:
        """The request that was to try it out ended without telling anything: its client left."""
        return replace(self, probe=None)

    def failed(self, now: float, reason: str) -> Breaker:
        match self.state(now):
            case State.CLOSED:
                if not self.faults or now > self.since + WINDOW:
                    return Breaker(1, now, reason=reason)
                counted = replace(self, faults=self.faults + 1, reason=reason)
                return replace(counted, opened=now) if counted.faults >= FAULTS else counted
            case State.OPEN:  # what was under way when it opened
                return replace(self, reason=reason)
            case State.HALF_OPEN:
                return replace(self, opened=now, pause=min(self.pause * 2, LONGEST), probe=None, reason=reason)

    def answered(self, now: float) -> Breaker:
        """A request was answered; one that was under way when it opened says nothing about now."""
        return self if self.state(now) is State.OPEN else CLOSED


CLOSED = Breaker()


def room(slots: int, back: float, now: float) -> int | None:
    """How many requests a worker that is back since then may have at once; None: as many as anyone."""
    share = (now - back) / RAMP
    return None if share >= 1 else max(1, round(slots * share))
