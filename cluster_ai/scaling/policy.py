"""From what is asked of a model to how many replicas it should have. Pure: the simulator in benchmarks/ runs the same.

Up at once, down slowly: the number goes down to the most that was recommended during the cool-down, as Kubernetes'
autoscaler does (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/: algorithm, stabilization).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

TOLERANCE = 0.1  # by which the load of a replica may be beside its target without anything happening
SOMETHING = 0.5  # requests at once that a forecast must come to, to count as any


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week with at least so many replicas. days: 0 is Monday; begin, end: minutes of the day; an end that
    isn't after the beginning is on the next day."""

    days: frozenset[int]
    begin: int
    end: int
    replicas: int

    def holds(self, at: datetime) -> bool:
        minute, day = at.hour * 60 + at.minute, at.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Policy:
    """in_flight: requests that one replica should have at once, running or waiting. queue_time: seconds that a request
    may wait for a slot; None: that doesn't count. cool_down: seconds. idle: seconds without a request after which the
    model leaves memory everywhere; None: it never does."""

    min: int
    max: int
    in_flight: float
    queue_time: float | None = None
    cool_down: float = 300.0
    idle: float | None = None
    schedule: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """replicas: those that are there. in_flight: requests at once, over the last minute. queue_time: seconds, the mean
    of that minute. idle: seconds since the last request. forecast: the most requests at once in the time that a
    replica takes to get ready; None: nobody can tell."""

    replicas: int
    in_flight: float
    queue_time: float = 0.0
    idle: float = 0.0
    forecast: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """reason: what asked for this number, for people."""

    replicas: int
    reason: str


class Scaler:
    """One model's. It remembers what it recommended during the cool-down, and nothing else."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._recent: deque[tuple[float, int]] = deque()

    def decide(self, load: Load, at: datetime) -> Decision:
        """at: local time, with its zone."""
        now = at.timestamp()
        best = max(self._wishes(load, at), key=lambda it: it.replicas)
        wanted = min(self.policy.max, best.replicas)
        if not self._recent and self.policy.cool_down:  # begun anew: what is there was wanted a moment ago
            self._recent.append((now, min(self.policy.max, load.replicas)))
        self._recent.append((now, wanted))
        while self._recent[0][0] < now - self.policy.cool_down:
            self._recent.popleft()
        if wanted >= load.replicas:
            capped = f", but {self.policy.max} is the most" if best.replicas > self.policy.max else ""
            return Decision(wanted, best.reason + capped)
        lately = max(count for _, count in self._recent)
        if lately > wanted:
            kept = min(lately, load.replicas)
            return Decision(kept, f"{best.reason}, but {lately} were wanted within {self.policy.cool_down:.0f} s")
        return Decision(wanted, best.reason)

    def _wishes(self, load: Load, at: datetime) -> Iterator[Decision]:
        """What each part of the policy asks for; the most counts."""
        policy = self.policy
        asleep = policy.idle is not None and (load.idle >= policy.idle or (not load.replicas and not load.in_flight))
        if asleep:
            yield Decision(0, f"no request for {load.idle:.0f} s")
        else:
            yield Decision(policy.min, f"{policy.min} at least")
        for window in policy.schedule:
            if window.holds(at):
                yield Decision(window.replicas, f"{window.replicas} by schedule")
        if not asleep:
            yield self._by_load(load)
        if load.forecast is not None and load.forecast >= SOMETHING:
            count = _needed(load.forecast, policy.in_flight)
            yield Decision(count, f"a forecast of {load.forecast:.3g} requests at once, {policy.in_flight:g} a replica")
        if policy.queue_time is not None and load.queue_time > policy.queue_time:
            text = f"requests wait {load.queue_time:.3g} s, at most {policy.queue_time:g} s are meant"
            yield Decision(load.replicas + 1, text)

    def _by_load(self, load: Load) -> Decision:
        target = self.policy.in_flight
        near = load.replicas and abs(load.in_flight / (load.replicas * target) - 1) <= TOLERANCE
        count = load.replicas if near else _needed(load.in_flight, target)
        return Decision(max(count, 1), f"{load.in_flight:.3g} requests at once, {target:g} a replica")


def _needed(in_flight: float, target: float) -> int:
    return math.ceil(in_flight / target - 1e-9)
