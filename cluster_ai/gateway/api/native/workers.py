"""Each worker: how it is, whether it gets anything new, and those that join while the gateway runs."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.figures import buckets, families, quantile, total
from cluster_ai.gateway.api.native.kept.fleet import FleetChanges
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, Tracing, WorkerName, refusals
from cluster_ai.gateway.api.native.worker_info import EXAMPLE, WorkerInfo, worker_info
from cluster_ai.gateway.fleet import Worker
from cluster_ai.metrics import names
from cluster_ai.metrics.names import Metric
from cluster_ai.settings import Upstream

MOST = 1000  # workers that are registered at run time
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,9}"
_URL = rf"^(https://{_HOST}|http://(127[.]0[.]0[.]1|localhost|\[::1\])):{_PORT}$"
FIRST_CHECK = 5.0  # seconds that a registration waits for the first check of its worker


class CordonRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "new fans"}]})

    reason: str = Field("", max_length=200, description="For people who look at the status.")


class Workers(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"workers": [EXAMPLE]}]})

    workers: list[WorkerInfo]


class WorkerRequest(Body):
    """A worker that cluster.yaml doesn't name. It lasts over restarts, until it is unregistered or named there."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "lent-01", "url": "https://lent-01.cluster.ai:11443", "slots": 2}]},
    )

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    url: str = Field(
        pattern=_URL,
        description="https://HOST:PORT, where a certificate of the cluster's CA is shown; or http:// on loopback. "
        "HOST is a name or an IPv4 address.",
    )
    slots: int = Field(1, ge=1, le=1024, description="Requests that it runs at once.")
    gpu: int = Field(0, ge=0, le=64, description="Its cards.")


class WorkerMetrics(BaseModel):
    """What this gateway has measured of a worker since its start; null where there is nothing yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "gpu-worker-01",
                    "in_flight": 2,
                    "requests_ok": 812,
                    "requests_failed": 1,
                    "tokens_total": 90411,
                    "tokens_per_second": 104.2,
                    "response_time_p50": 1.7,
                    "response_time_p95": 5.2,
                    "time_to_first_token_p50": 0.09,
                    "time_to_first_token_p95": 0.31,
                }
            ]
        }
    )

    name: str
    in_flight: int
    requests_ok: int
    requests_failed: int = Field(description="It erred or was lost, be it that another worker stepped in.")
    tokens_total: int
    tokens_per_second: float | None = Field(description="Of one answer, on average over those of 16 tokens and more.")
    response_time_p50: float | None
    response_time_p95: float | None
    time_to_first_token_p50: float | None
    time_to_first_token_p95: float | None


def worker_metrics(parts: Parts, worker: Worker) -> WorkerMetrics:
    kinds = (
        names.WORKER_REQUESTS,
        names.WORKER_RESPONSE_TIME,
        names.WORKER_FIRST_TOKEN,
        names.WORKER_TIMED_TOKENS,
        names.WORKER_EVAL_SECONDS,
        names.TOKENS,
    )
    found, name = families(parts.registry, *(kind.name for kind in kinds)), worker.name

    def of(kind: Metric, **labels: str) -> float:
        return total(found[kind.name], kind.name, worker=name, **labels)

    response = buckets(found[names.WORKER_RESPONSE_TIME.name], worker=name)
    first = buckets(found[names.WORKER_FIRST_TOKEN.name], worker=name)
    seconds = of(names.WORKER_EVAL_SECONDS)
    return WorkerMetrics(
        name=name,
        in_flight=worker.in_flight,
        requests_ok=int(of(names.WORKER_REQUESTS, outcome="ok")),
        requests_failed=int(of(names.WORKER_REQUESTS, outcome="error")),
        tokens_total=int(of(names.TOKENS)),
        tokens_per_second=round(of(names.WORKER_TIMED_TOKENS) / seconds, 2) if seconds else None,
        response_time_p50=quantile(0.5, response, {}),
        response_time_p95=quantile(0.95, response, {}),
        time_to_first_token_p50=quantile(0.5, first, {}),
        time_to_first_token_p95=quantile(0.95, first, {}),
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/cluster/workers", tags=["workers"])
    fleet, changes = parts.fleet, FleetChanges(parts.database)
    configured = frozenset(u.name for u in parts.settings.upstreams)

    def info(worker: Worker) -> WorkerInfo:
        return worker_info(worker, parts.membership.view, parts.cordons)

    @router.get("", summary="Every worker, now", operation_id="listWorkers", responses=refusals())
    async def workers() -> Workers:
        return Workers(workers=[info(worker) for worker in parts.fleet.workers.values()])

    @router.post(
        "",
        summary="Register a worker that cluster.yaml doesn't name; it gets requests once it has answered a check",
        operation_id="registerWorker",
        status_code=201,
        responses=refusals(409, 503),
    )
    async def register(user: Asking, trace: Tracing, body: WorkerRequest) -> WorkerInfo:
        trace.about, trace.note = body.name, "register"
        if body.url.startswith("https:") and not parts.tls:
            raise Refusal(409, "no_tls", "url: this gateway has no certificates of a cluster, so https proves nothing")
        upstream = Upstream(name=body.name, url=body.url, models=(), slots=body.slots, gpu=body.gpu)
        taken = next(
            (w for w in fleet.workers.values() if w.name == upstream.name or w.upstream.url == upstream.url), None
        )
        if taken is not None:
            raise Refusal(409, "worker_exists", f"worker '{taken.name}' at {taken.upstream.url} is there already")
        if len(fleet.workers) - len(configured) >= MOST:
            raise Refusal(409, "too_many_workers", f"{MOST} are registered: name them in cluster.yaml")
        worker = fleet.add(upstream)
        try:
            await asyncio.to_thread(changes.add_worker, upstream, user.name)
        except BaseException:
            fleet.remove(worker)
            raise
        parts.meter.expect(worker.name, ())
        parts.health.add(worker)
        await parts.health.looked(FIRST_CHECK)
        return info(worker)

    @router.delete(
        "/{name}",
        summary="Take out a worker that was registered; what it has under way it finishes",
        operation_id="unregisterWorker",
        status_code=204,
        responses=refusals(404, 409, 503),
    )
    async def unregister(name: WorkerName, trace: Tracing) -> Response:
        trace.note = "unregister"
        found = parts.worker(name)
        if name in configured:
            text = f"worker '{name}' is cluster.yaml's: remove it there and apply, or drain it"
            raise Refusal(409, "configured", text)
        await asyncio.to_thread(changes.remove_worker, name)
        if found.cordon is not None:
            await parts.cordons.resume(found)
        if fleet.workers.get(name) is found:
            fleet.remove(found)
            await parts.health.remove(found)
        return Response(status_code=204)

    @router.get(
        "/{name}/metrics",
        summary="What one worker has done since the gateway's start",
        operation_id="getWorkerMetrics",
        responses=refusals(404),
    )
    async def one_metrics(name: WorkerName) -> WorkerMetrics:
        return worker_metrics(parts, parts.worker(name))

    @router.get("/{name}", summary="One worker, now", operation_id="getWorkerStatus", responses=refusals(404))
    async def worker(name: WorkerName) -> WorkerInfo:
        return info(parts.worker(name))

    @router.post(
        "/{name}/cordon",
        summary="Give a worker nothing new, until resume; it finishes what it has",
        operation_id="cordonWorker",
        responses=refusals(404),
    )
    async def cordon(name: WorkerName, trace: Tracing, body: CordonRequest | None = None) -> WorkerInfo:
        trace.note = "cordon"
        found = parts.worker(name)
        await parts.cordons.cordon(found, body.reason if body else "", drain=False)
        return info(found)

    @router.post(
        "/{name}/drain",
        summary="Cordon a worker, and move what only it holds in Dask. `cordon` in the status tells what is left",
        operation_id="drainWorker",
        responses=refusals(404),
    )
    async def drain(name: WorkerName, trace: Tracing, body: CordonRequest | None = None) -> WorkerInfo:
        trace.note = "drain"
        found = parts.worker(name)
        await parts.cordons.cordon(found, body.reason if body else "", drain=True)
        return info(found)

    @router.post(
        "/{name}/resume",
        summary="Give a cordoned or drained worker requests and tasks again",
        operation_id="resumeWorker",
        responses=refusals(404),
    )
    async def resume(name: WorkerName, trace: Tracing) -> WorkerInfo:
        trace.note = "resume"
        found = parts.worker(name)
        await parts.cordons.resume(found)
        return info(found)

    return router
