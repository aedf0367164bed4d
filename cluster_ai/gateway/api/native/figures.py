"""The main figures of this gateway as JSON: its own counters, and what they came to in the last minute.

Prometheus keeps the same for weeks; this is for programs that have none, and needs nothing beside the gateway.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from cluster_ai.metrics import names

WINDOW = 60.0  # seconds
INTERVAL = 5.0
_UNSERVED = frozenset(("/health", "/metrics"))  # asked by machines, every few seconds

Buckets = Mapping[float, float]  # upper bound -> how many took at most so long


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters at one moment, since the gateway's start."""

    at: float
    requests: float
    errors: float  # answers of 500 and above
    tasks: float
    tokens: float
    response: Buckets = field(default_factory=dict)
    first_token: Buckets = field(default_factory=dict)


def snapshot(registry: CollectorRegistry, at: float) -> Snapshot:
    wanted = (names.REQUESTS, names.TOKENS, names.RESPONSE_TIME, names.FIRST_TOKEN)
    found = families(registry, *(metric.name for metric in wanted))
    requests = errors = 0.0
    for sample in found[names.REQUESTS.name].samples:
        if sample.name == names.REQUESTS.name and sample.labels["route"] not in _UNSERVED:
            requests += sample.value
            errors += sample.value if sample.labels["code"] >= "500" else 0.0
    response = buckets(found[names.RESPONSE_TIME.name])
    return Snapshot(
        at,
        requests,
        errors,
        max(response.values(), default=0.0),
        sum(s.value for s in found[names.TOKENS.name].samples if s.name == names.TOKENS.name),
        response,
        buckets(found[names.FIRST_TOKEN.name]),
    )


def buckets(family: Family, **labels: str) -> Buckets:
    """Of the series with these labels, added up."""
    found: dict[float, float] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket") and labels.items() <= sample.labels.items():
            bound = float(sample.labels["le"])
            found[bound] = found.get(bound, 0.0) + sample.value
    return found


def total(family: Family, name: str, **labels: str) -> float:
    return sum(s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items())


def quantile(share: float, now: Buckets, before: Buckets) -> float | None:
    """About how long at most that share of what came between took; None where nothing did.

    As Prometheus reckons it: evenly spread within a bucket. What is above the last bound counts as the last bound.
    """
    bounds = sorted(now)
    counts = [now[bound] - before.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    place = bisect.bisect_left(counts, rank)
    finite = [bound for bound in bounds if bound != float("inf")]
    if place >= len(finite):
        return finite[-1] if finite else None
    low, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    inside = counts[place] - below
    return low + (bounds[place] - low) * ((rank - below) / inside if inside > 0 else 1.0)


class Figures:
    """What is remembered of the last minute. `keep` does so until it is cancelled."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self._past: deque[Snapshot] = deque([snapshot(registry, clock())])

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await asyncio.to_thread(self.remember)

    def remember(self) -> None:
        self._past.append(snapshot(self._registry, self._clock()))
        while len(self._past) > 1 and self._past[1].at <= self._past[-1].at - WINDOW:
            self._past.popleft()

    def span(self) -> tuple[Snapshot, Snapshot]:
        """From the oldest that is remembered until now: a minute, or since the start."""
        return self._past[0], snapshot(self._registry, self._clock())


def families(registry: CollectorRegistry, *wanted: str) -> dict[str, Family]:
    """By the name in names.py. Only these are collected; one that has no series yet is empty."""
    asked = [name for each in wanted for name in (each, f"{each}_bucket", f"{each}_sum", f"{each}_count")]
    found = {family.name: family for family in registry.restricted_registry(asked).collect()}
    return {name: found.get(name.removesuffix("_total")) or Family(name, "", "untyped") for name in wanted}
