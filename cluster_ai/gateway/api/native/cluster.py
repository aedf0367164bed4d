"""The cluster as a whole, now."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cluster_ai.gateway.api.native.parts import PREFIX, Parts, refusals
from cluster_ai.gateway.api.native.workers import EXAMPLE, WorkerInfo, worker_info


class Status(BaseModel):
    """cpu_utilization and memory_usage are shares of 0 to 1 over all hosts that report; null where none does."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "cluster": "production-cluster",
                    "total_workers": 1,
                    "active_workers": 1,
                    "active_tasks": 2,
                    "cpu_utilization": 0.31,
                    "memory_usage": 0.42,
                    "gpu_available": 1,
                    "scheduler_connected": True,
                    "scheduler_reason": None,
                    "workers": [EXAMPLE],
                }
            ]
        }
    )

    cluster: str
    total_workers: int
    active_workers: int
    active_tasks: int = Field(description="Requests in flight through this gateway, and Dask tasks that run.")
    cpu_utilization: float | None
    memory_usage: float | None
    gpu_available: int = Field(description="Cards that the workers' drivers report.")
    scheduler_connected: bool
    scheduler_reason: str | None
    workers: list[WorkerInfo]


def status(parts: Parts) -> Status:
    view = parts.membership.view
    members = view.members if view is not None else {}
    elsewhere = parts.elders.in_flight()
    workers = [
        worker_info(w, members.get(w.name), parts.cordons, elsewhere.get(w.name, 0))
        for w in parts.fleet.workers.values()
    ]
    reports = [m.report for m in members.values() if m.report is not None]
    timed = [(r.cpu * r.cores, r.cores) for r in reports if r.cpu is not None]
    memory = sum(r.memory_total for r in reports)
    return Status(
        cluster=parts.settings.cluster,
        total_workers=len(workers),
        active_workers=len(parts.fleet.active()),
        active_tasks=sum(w.in_flight for w in workers) + sum(m.executing for m in members.values()),
        cpu_utilization=round(sum(t[0] for t in timed) / sum(t[1] for t in timed), 4) if timed else None,
        memory_usage=round(sum(r.memory_used for r in reports) / memory, 4) if memory else None,
        gpu_available=sum(len(w.gpu) for w in workers if w.state == "active"),
        scheduler_connected=parts.membership.connected,
        scheduler_reason=parts.membership.reason or None,
        workers=workers,
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/cluster", tags=["cluster"])

    @router.get(
        "/status",
        summary="The cluster and each worker, now",
        operation_id="getClusterStatus",
        responses=refusals(),
    )
    async def cluster_status() -> Status:
        return status(parts)

    return router
