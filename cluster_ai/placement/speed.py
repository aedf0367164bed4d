"""How much more of the models a quick worker takes than a slow one, by what was measured on each. Pure.

Measurements are never exact, so they count in coarse steps: workers of nearly the same speed count the same, and those
of different speeds as 1, 2, 4, ... of the slowest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster_ai.placement.room import Processor

APART = 1.5  # times as quick as the next slower one: less is no difference


@dataclass(frozen=True, slots=True)
class Pace:
    """Workers compared. speeds: worker -> tokens per second of the model `by`, where it was measured."""

    by: str = ""
    speeds: Mapping[str, float] = field(default_factory=dict)
    _times: Mapping[str, int] = field(default_factory=dict)

    def times(self, worker: str, processor: Processor, *, cards: bool) -> int:
        """As how many of the slowest it counts. What was measured on its cards says nothing of its processor."""
        return self._times.get(worker, 1) if processor == "gpu" or not cards else 1


def compare(model: str, measured: Mapping[str, Mapping[str, float]]) -> Pace:
    """measured: worker -> model -> tokens per second. All are compared by one model: the one that most were measured
    with; where several are, by `model` itself. A worker that wasn't measured with it counts as one of the slowest, so
    that nothing moves to a worker of which nobody knows."""
    counts = Counter(name for speeds in measured.values() for name in speeds)
    by = max(counts, key=lambda name: (counts[name], name == model, name), default="")
    speeds = {worker: it[by] for worker, it in measured.items() if by in it}
    if len(speeds) < 2:
        return Pace()
    times, slowest = dict[str, int](), min(speeds.values())
    before, step = slowest, 1
    for worker, speed in sorted(speeds.items(), key=lambda it: (it[1], it[0])):
        if speed > before * APART:
            step = 2 ** round(math.log2(speed / slowest))
        times[worker], before = step, speed
    return Pace(by, speeds, times)
