"""A model that was placed on a card and runs on the processor after all: seen by its memory, or by its speed. Pure."""

from __future__ import annotations

from collections import deque

SHARE = 0.5  # of a model's memory that must be on cards; placed there, it is all of it
SLOWER = 5.0  # times, against its own past: a busy card slows an answer down, but not so much
ANSWERS = 5  # in a row that must be so slow
KNOWN = 10  # answers after which its usual speed is known
AGAIN = 60.0  # seconds until a slow one gets requests again, to show what it can; twice as long each time
LONGEST = 960.0
_WEIGHT = 0.05


def fallen(size: int, on_cards: int) -> str:
    """Why the model isn't where it was placed; empty where it is."""
    if size <= 0 or on_cards >= SHARE * size:
        return ""
    return f"fell back to the CPU: {on_cards * 100 // size} % of it is on the card"


class Speed:
    """Of one model on one worker's cards. In tokens per second, of answers that were long enough to tell."""

    __slots__ = ("_answers", "_last", "_pause", "_usual", "slow_until")

    def __init__(self) -> None:
        self._usual, self._answers = 0.0, 0
        self._last: deque[float] = deque(maxlen=ANSWERS)
        self._pause = AGAIN
        self.slow_until = 0.0

    def add(self, speed: float, now: float) -> None:
        self._last.append(speed)
        if self._answers >= KNOWN and speed * SLOWER < self._usual:
            if len(self._last) == ANSWERS and max(self._last) * SLOWER < self._usual and now >= self.slow_until:
                self.slow_until, self._pause = now + self._pause, min(self._pause * 2, LONGEST)
                self._last.clear()
            return
        self._usual += (speed - self._usual) * max(_WEIGHT, 1 / (self._answers + 1))
        self._answers += 1
        self._pause = AGAIN

    def reason(self, now: float) -> str:
        if now >= self.slow_until:
            return ""
        return f"answers {SLOWER:g} times slower than its usual {self._usual:.0f} tokens/s: it may run on the CPU"
