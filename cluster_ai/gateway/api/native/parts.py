"""What the native API's routes are given, who asks them, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from cluster_ai.cluster.membership import Membership
from cluster_ai.gateway.admission.books import Books
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.admission.users import NOBODY, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.figures import Figures
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.context import Contexts
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.health import HealthWatch
from cluster_ai.gateway.identity.audit import Audit
from cluster_ai.gateway.identity.logins import Logins
from cluster_ai.gateway.metering import Meter
from cluster_ai.gateway.models.changes import Changes
from cluster_ai.gateway.models.decisions import Decisions
from cluster_ai.gateway.models.memory import Memory
from cluster_ai.gateway.models.registry import Registry
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.gateway.relay import Relay
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.gateway.trace import Trace
from cluster_ai.settings import GatewaySettings

PREFIX = "/api/v1"
WorkerName = Annotated[str, Path(description="As in cluster.yaml.", examples=["gpu-worker-01"])]

_REFUSALS = {
    400: "The request is wrong; `message` says what",
    401: "No good token",
    403: "This user may not do it, or a page of another origin asks",
    404: "There is no such thing",
    405: "The path doesn't take this method",
    409: "It doesn't fit what is there now",
    410: "It was there, and was deleted",
    413: "The body is too large",
    429: "Too much for this user now; see Retry-After",
    500: "A fault of the gateway; its log has it under `request_id`",
    502: "The engine failed, or its worker was lost",
    503: "Nobody can do it now; see Retry-After",
}


class Error(BaseModel):
    code: str
    message: str


class ErrorReply(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {"code": "model_not_found", "message": "model 'x' not found"},
                    "request_id": "5f2d8a9be07c4431",
                }
            ]
        }
    )

    error: Error
    request_id: str


@dataclass(frozen=True, slots=True)
class Parts:
    settings: GatewaySettings
    fleet: Fleet
    membership: Membership
    cordons: Cordons
    health: HealthWatch
    relay: Relay
    meter: Meter
    registry: CollectorRegistry
    figures: Figures
    database: Database
    tasks: TaskManager
    gate: Gate
    books: Books
    contexts: Contexts
    models: Changes
    memory: Memory
    known: Registry
    stand_ins: StandIns
    decisions: Decisions
    logins: Logins
    audit: Audit

    @property
    def tls(self) -> bool:
        """Whether workers are reached with the cluster's certificates."""
        urls = (upstream.url for upstream in self.settings.upstreams)
        return self.settings.scheduler.startswith("tls://") or any(url.startswith("https://") for url in urls)

    def worker(self, name: str) -> Worker:
        """Raises Refusal (404)."""
        worker = self.fleet.workers.get(name)
        if worker is None:
            raise Refusal(404, "worker_not_found", f"worker '{name}' not found")
        return worker


Routes = Callable[[Parts], APIRouter]  # what each module of routes offers as `routes`


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: these, and those that any route may answer."""
    return {
        status: {"model": ErrorReply, "description": _REFUSALS[status]}
        for status in sorted({400, 401, 403, 413, 500, *statuses})
    }


def asking(request: Request) -> User:
    return cast(User, request.scope.get("user", NOBODY))


def tracing(request: Request) -> Trace:
    return cast(Trace, request.scope["trace"])


Asking = Annotated[User, Depends(asking)]
Tracing = Annotated[Trace, Depends(tracing)]  # where the audit log is to be told more


def owner(user: User) -> str:
    """Whose a session or a template is: those without a key are told apart by their address."""
    return f"{user.name}@{user.source}" if user.source else user.name
