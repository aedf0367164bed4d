"""What several engines tell of the same work, as one engine would tell it. Pure.

A layer's progress is the mean over the workers, in bytes of that layer; a step without bytes is told when the last
worker has come to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

APART = 0.1  # seconds between two lines about the same layer

Line = dict[str, Any]


@dataclass(slots=True)
class Failure:
    """Of one worker. status: as the engine answered, or what fits."""

    status: int
    reason: str


@dataclass(slots=True)
class _Layer:
    status: str
    total: int = 0
    done: dict[str, int] = field(default_factory=dict)
    told: int = -1
    when: float = float("-inf")


class Progress:
    """Fed with each line of each worker; gives back the lines that the client is to see now."""

    def __init__(self, workers: Iterable[str]) -> None:
        self._under_way = dict.fromkeys(workers)
        self._steps: dict[str, set[str]] = {}  # those not told yet, in their order: who has come to them
        self._told: set[str] = set()
        self._layers: dict[str, _Layer] = {}
        self.done: list[str] = []
        self.failed: dict[str, Failure] = {}

    def said(self, worker: str, line: Mapping[str, Any], now: float) -> list[Line]:
        digest, status = line.get("digest"), str(line.get("status") or "")
        if isinstance(digest, str) and digest:
            return self._layer(worker, digest, status, line, now)
        if not status or status in self._told:
            return []
        self._steps.setdefault(status, set()).add(worker)
        return self._reached()

    def finished(self, worker: str) -> list[Line]:
        self._under_way.pop(worker, None)
        self.done.append(worker)
        return self._reached()

    def failure(self, worker: str, failure: Failure) -> list[Line]:
        self._under_way.pop(worker, None)
        self.failed[worker] = failure
        return self._reached()

    def _reached(self) -> list[Line]:
        """Steps at which, or past which, everybody is."""
        if not self._under_way:
            return []  # the end is the caller's to tell
        reached = [s for s, who in self._steps.items() if who.issuperset(self._under_way)]
        for status in reached:
            del self._steps[status]
            self._told.add(status)
        return [{"status": status} for status in reached]

    def _layer(self, worker: str, digest: str, status: str, line: Mapping[str, Any], now: float) -> list[Line]:
        layer = self._layers.setdefault(digest, _Layer(status))
        layer.total = max(layer.total, _number(line.get("total")))
        layer.done[worker] = max(layer.done.get(worker, 0), _number(line.get("completed")))
        counted = [layer.done.get(w, 0) for w in self._under_way]
        completed = sum(counted) // len(counted) if counted else layer.total
        whole = completed >= layer.total > 0
        if completed == layer.told or (now - layer.when < APART and not whole):
            return []
        layer.told, layer.when = completed, now
        return [{"status": layer.status, "digest": digest, "total": layer.total, "completed": completed}]


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def told(failed: Mapping[str, Failure], done: Iterable[str], what: str) -> Failure | None:
    """One error for all; None when nothing failed. what: the work in the past tense, such as 'pulled'."""
    if not failed:
        return None
    done = sorted(done)
    reasons = {f.reason for f in failed.values()}
    statuses = {f.status for f in failed.values()}
    status = statuses.pop() if len(statuses) == 1 and not done else 502
    if not done and len(reasons) == 1:
        return Failure(status, reasons.pop())
    each = "; ".join(f"on {worker}: {failed[worker].reason}" for worker in sorted(failed))
    where = f"{what} on {', '.join(done)}, but not " if done else f"not {what} "
    return Failure(status, where + each)
