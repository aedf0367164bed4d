"""Tasks and batches, as the gateway tells them: one's own, or everybody's to those who oversee them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.gateway import Caller, Gateway
from dashboard.rollouts import seconds

TASKS, BATCHES = "/api/v1/tasks", "/v1/batches"
MOST = 200  # of what is shown at once
OPEN = frozenset(("queued", "sent"))  # states of a task that may be cancelled
ENDED = frozenset(("completed", "failed", "expired", "cancelled", "cancelling"))  # those of a batch that may not be


@dataclass(frozen=True, slots=True)
class Task:
    id: str
    kind: str
    state: str  # queued, sent, done, failed or cancelled
    user: str
    attempt: int
    worker: str | None
    error: str | None
    progress: float | None  # 0..1
    progress_text: str | None
    submitted: float  # seconds since 1970
    ended: float | None
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """completed, failed: of total requests."""

    id: str
    endpoint: str
    status: str
    created: float
    ended: float | None
    total: int
    completed: int
    failed: int
    problem: str | None

    @property
    def share(self) -> float:
        return (self.completed + self.failed) / self.total if self.total else 0.0


def tasks(gateway: Gateway, caller: Caller, state: str | None) -> tuple[Task, ...]:
    """The newest first. state None: of every state."""
    asked: dict[str, str | int] = {"limit": MOST, **({"state": state} if state else {})}
    return tuple(_task(it) for it in gateway.get(TASKS, caller, asked)["tasks"])


def result(gateway: Gateway, caller: Caller, name: str) -> dict[str, Any]:
    """What came out of a task that is done: `result`, or the `file` that has it."""
    return gateway.get(f"{TASKS}/{name}/result", caller)


def batches(gateway: Gateway, caller: Caller) -> tuple[Batch, ...]:
    """The newest first."""
    return tuple(_batch(it) for it in gateway.get(BATCHES, caller, {"limit": 100})["data"])


def _task(said: Mapping[str, Any]) -> Task:
    plain = ("id", "kind", "state", "user", "attempt", "worker", "error", "progress", "progress_text")
    return Task(
        **{name: said[name] for name in plain},
        submitted=seconds(said["submitted"]),
        ended=seconds(said["ended"]) if said["ended"] else None,
        tags=tuple(said["tags"]),
    )


def _batch(said: Mapping[str, Any]) -> Batch:
    counts, errors = said["request_counts"], (said["errors"] or {}).get("data") or ()
    ends = [said.get(f"{state}_at") for state in ("completed", "failed", "expired", "cancelled")]
    return Batch(
        id=said["id"],
        endpoint=said["endpoint"],
        status=said["status"],
        created=said["created_at"],
        ended=next((end for end in ends if end), None),
        total=counts["total"],
        completed=counts["completed"],
        failed=counts["failed"],
        problem="; ".join(str(error.get("message", error)) for error in errors[:3]) or None,
    )
