"""The cluster as a whole, now."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cluster_ai.gateway.api.native.figures import Buckets, families, quantile, total
from cluster_ai.gateway.api.native.parts import PREFIX, Parts, refusals
from cluster_ai.gateway.api.native.worker_info import EXAMPLE, WorkerInfo, worker_info
from cluster_ai.gateway.models.decisions import Kind
from cluster_ai.metrics import names


class Latency(BaseModel):
    """Seconds that half of the requests took at most, and so on; null where there were none."""

    p50: float | None
    p95: float | None
    p99: float | None


class Metrics(BaseModel):
    """Of this gateway: rates and times over the last minute, totals since its start."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "window_seconds": 60.0,
                    "requests_per_second": 3.4,
                    "tokens_per_second": 212.5,
                    "errors_per_second": 0.0,
                    "response_time": {"p50": 1.8, "p95": 6.1, "p99": 8.9},
                    "time_to_first_token": {"p50": 0.11, "p95": 0.42, "p99": 1.3},
                    "in_flight": 7,
                    "requests_total": 18240,
                    "errors_total": 3,
                    "tokens_total": 1204113,
                    "inferences_total": 9120,
                    "failovers_total": 2,
                }
            ]
        }
    )

    window_seconds: float = Field(description="What the rates are over; less than a minute after a start.")
    requests_per_second: float = Field(description="Of all APIs, less health checks and metrics.")
    tokens_per_second: float = Field(description="Of answers that ended.")
    errors_per_second: float = Field(description="Answers of 500 and above.")
    response_time: Latency
    time_to_first_token: Latency
    in_flight: int
    requests_total: int
    errors_total: int
    tokens_total: int
    inferences_total: int
    failovers_total: int


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


class ScalingDecision(BaseModel):
    at: str = Field(description="UTC.")
    kind: Kind = Field(
        description="What there is more or less of: `replicas` of a model in memory, or getting there; Dask worker "
        "`processes` of a worker; `power`, where 1 is a standby host awake."
    )
    name: str = Field(description="Of the model, or of the worker.")
    before: int
    after: int
    reason: str
    dry_run: bool = Field(description="It was only told, as cluster.yaml wants it.")


class Scaling(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decisions": [
                        {
                            "at": "2026-11-30T08:14:00Z",
                            "kind": "replicas",
                            "name": "llama2:13b",
                            "before": 1,
                            "after": 2,
                            "reason": "a forecast of 6 requests at once, 4 a replica",
                            "dry_run": False,
                        }
                    ]
                }
            ]
        }
    )

    decisions: list[ScalingDecision] = Field(description="The latest 500, the newest first.")


async def scaling(parts: Parts) -> Scaling:
    return Scaling(
        decisions=[
            ScalingDecision(
                at=datetime.fromtimestamp(it.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                kind=it.kind,
                name=it.name,
                before=it.before,
                after=it.after,
                reason=it.reason,
                dry_run=it.dry_run,
            )
            for it in await parts.decisions.latest()
        ]
    )


def status(parts: Parts) -> Status:
    view = parts.membership.view
    members = view.members if view is not None else {}
    workers = [worker_info(w, view, parts.cordons) for w in parts.fleet.workers.values()]
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


def latency(now: Buckets, before: Buckets) -> Latency:
    p50, p95, p99 = (quantile(share, now, before) for share in (0.5, 0.95, 0.99))
    return Latency(p50=p50, p95=p95, p99=p99)


def metrics(parts: Parts) -> Metrics:
    before, now = parts.figures.span()
    seconds = max(now.at - before.at, 0.001)
    failovers = families(parts.registry, names.FAILOVERS.name)[names.FAILOVERS.name]
    return Metrics(
        window_seconds=round(seconds, 1),
        requests_per_second=round((now.requests - before.requests) / seconds, 3),
        tokens_per_second=round((now.tokens - before.tokens) / seconds, 3),
        errors_per_second=round((now.errors - before.errors) / seconds, 3),
        response_time=latency(now.response, before.response),
        time_to_first_token=latency(now.first_token, before.first_token),
        in_flight=sum(w.in_flight for w in parts.fleet.workers.values()),
        requests_total=int(now.requests),
        errors_total=int(now.errors),
        tokens_total=int(now.tokens),
        inferences_total=int(now.tasks),
        failovers_total=int(total(failovers, names.FAILOVERS.name)),
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

    @router.get(
        "/metrics",
        summary="The main figures: rates and times of the last minute, totals since the gateway's start",
        operation_id="getClusterMetrics",
        responses=refusals(),
    )
    async def cluster_metrics() -> Metrics:
        return metrics(parts)

    @router.get(
        "/scaling",
        summary="What the autoscaler decided, and why",
        operation_id="getScaling",
        responses=refusals(),
    )
    async def cluster_scaling() -> Scaling:
        return await scaling(parts)

    return router
