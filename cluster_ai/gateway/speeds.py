"""How quick one worker is, by model: what its answers show, and until they do, what cluster.yaml states."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WEIGHT = 0.2  # of the newest in a moving average
STALE = 300.0  # seconds after which an answer says nothing: one that was slow in a bad hour must be tried again


class Speeds:
    """Tokens per second of one answer. stated: where they were measured once. clock: seconds, never goes back."""

    def __init__(self, stated: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._stated, self._clock = dict(stated), clock
        self._seen: dict[str, tuple[float, float]] = {}  # by model: the average, and when it was renewed

    def get(self, model: str) -> float | None:
        """None: nobody knows, so that the policies try it as if it were one of the quickest."""
        speed, at = self._seen.get(model, (0.0, 0.0))
        return speed if speed and self._clock() < at + STALE else self._stated.get(model)

    def add(self, model: str, speed: float) -> None:
        known = self.get(model) or speed
        self._seen[model] = known + WEIGHT * (speed - known), self._clock()

    def forget(self) -> None:
        """It may be another engine now."""
        self._seen.clear()

    def all(self) -> dict[str, float]:
        return {model: speed for model in {**self._stated, **self._seen} if (speed := self.get(model)) is not None}
