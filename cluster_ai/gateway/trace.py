"""What one request came to: for its line in the log, its answer's headers, and the account of its user."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from cluster_ai.gateway.admission.users import NOBODY, User
from cluster_ai.gateway.api.http import Header
from cluster_ai.gateway.balancing import NO_WISH, Wish
from cluster_ai.gateway.metering import Usage


@dataclass(slots=True)
class Trace:
    """headers: what every answer to this request bears, refusals too. usage: whoever meters sets it."""

    id: str
    started: float
    user: User = NOBODY
    service: str = ""  # that asks for the user
    wish: Wish = NO_WISH
    model: str = ""
    about: str = ""  # what it changes, where neither path nor model says
    note: str = ""  # more of that, for the audit log
    worker: str = ""
    status: int = 0
    error: str = ""
    first_byte: float | None = None  # seconds after the start
    queued: float = 0.0  # seconds in the queue
    late: str = ""  # that it took longer than a request may
    cut: bool = False  # its prompt was too long, and lost its oldest part
    usage: Usage | None = None
    trace_id: str = ""  # of OpenTelemetry, where requests are traced
    headers: list[Header] = field(default_factory=list)

    @property
    def exemplar(self) -> dict[str, str]:
        """By which a figure leads to its request in log and traces."""
        return {"request_id": self.id, "trace_id": self.trace_id} if self.trace_id else {"request_id": self.id}

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def fields(self) -> dict[str, Any]:
        known: dict[str, Any] = {"ms": round(self.elapsed() * 1000, 1)}
        if self.trace_id:
            known["trace_id"] = self.trace_id
        if self.user is not NOBODY:
            known["user"] = self.user.name
        if self.service:
            known["service"] = self.service
        if self.model:
            known["model"] = self.model
        if self.worker:
            known["worker"] = self.worker
        if self.queued:
            known["queue_ms"] = round(self.queued * 1000, 1)
        if self.first_byte is not None:
            known["ttft_ms"] = round(self.first_byte * 1000, 1)
        if self.usage is not None:
            known["tokens"] = self.usage.tokens
        if self.cut:
            known["context"] = "truncated"
        if self.error:
            known["error"] = self.error
        return known
