"""How fast a model streams on a worker, and from it: when a stream counts as lost.

Learned from what the sweeps of watch.py see, not from single tokens.
"""

from __future__ import annotations

FLOOR = 20.0  # seconds of silence that are never too much
FIRST = 60.0  # the same before the first token
LOADING = 300.0  # seconds that Ollama itself gives a model to load
PROMPT = 20.0  # bytes of a prompt per second that the slowest worker reads
PATIENCE = 6  # times longer is waited when nobody else could go on
_USUAL, _PAUSES = 20.0, 3.0  # times the usual gap, times the longest pause: much longer than the model's own pace
_WEIGHT = 0.1  # of the newest in the moving averages
_FADE = 0.995  # of the longest, at each sweep that brings tokens: what was once need not be for ever


class Pace:
    """One model on one worker."""

    __slots__ = ("first", "gap", "pause")

    def __init__(self) -> None:
        self.gap = 0.0  # usual seconds between two pieces; 0: not known yet
        self.pause = 0.0  # the longest silence after which a stream went on
        self.first = 0.0  # the longest wait for a first piece

    def streamed(self, pieces: int, seconds: float) -> None:
        gap = seconds / pieces
        self.gap = gap if not self.gap else self.gap + _WEIGHT * (gap - self.gap)
        self.pause *= _FADE

    def paused(self, seconds: float) -> None:
        """A stream went on after so long a silence."""
        self.pause = max(self.pause, seconds)

    def began(self, seconds: float) -> None:
        """A stream's first piece came after so long."""
        self.first = max(self.first * _FADE, seconds)

    def limit(self) -> float:
        """Seconds of silence within a stream after which it is lost."""
        return max(FLOOR, _USUAL * self.gap, _PAUSES * self.pause)

    def first_limit(self, size: int, *, loaded: bool, ahead: float) -> float:
        """The same before its first piece. size: bytes of the request; ahead: requests there for each slot."""
        once = max(FIRST, _PAUSES * self.first) + size / PROMPT
        return once * max(1.0, ahead) + (0.0 if loaded else LOADING)
