"""Each worker: how it is, whether it gets anything new, and those that join while the gateway runs."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.cluster.membership import Member, View
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.body import Body
from cluster_ai.gateway.api.native.figures import buckets, families, quantile, total
from cluster_ai.gateway.api.native.kept.fleet import FleetChanges
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, Tracing, WorkerName, refusals
from cluster_ai.gateway.api.native.sessions import when
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.findings import findings
from cluster_ai.gateway.fleet import Worker
from cluster_ai.metrics import names
from cluster_ai.metrics.names import Metric
from cluster_ai.settings import Upstream

MOST = 1000  # workers that are registered at run time
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,9}"
_URL = rf"^(https://{_HOST}|http://(127[.]0[.]0[.]1|localhost|\[::1\])):{_PORT}$"
FIRST_CHECK = 5.0  # seconds that a registration waits for the first check of its worker
EXAMPLE: JsonDict = {
    "name": "gpu-worker-01",
    "state": "active",
    "reason": None,
    "in_flight": 2,
    "slots": 4,
    "dask_tasks": 0,
    "placed": ["llama2:13b"],
    "models": ["llama2:13b"],
    "loaded": ["llama2:13b"],
    "engine_version": "0.17.4",
    "cpu": 0.31,
    "memory_used": 14495514624,
    "memory_total": 34359738368,
    "cpus": 16.0,
    "memory_limit": 34359738368,
    "disk_free": 209379655680,
    "disk_total": 502921060352,
    "gpu": [
        {
            "index": 0,
            "name": "NVIDIA GeForce RTX 3090",
            "memory_used": 9126805504,
            "memory_total": 25769803776,
            "usage": 0.87,
            "temperature": 61.0,
            "power": 248.5,
        }
    ],
    "networks": [{"name": "enp4s0", "addresses": ["10.0.4.21"], "speed": 1000}],
    "release": "3f" * 32,
    "reported": "2026-11-24T09:30:00Z",
    "dask": "present",
    "isolation": "cgroup",
    "isolation_reason": None,
    "warnings": [],
    "cordon": None,
}


class GpuInfo(BaseModel):
    index: int
    name: str
    memory_used: int
    memory_total: int
    usage: float | None
    temperature: float | None = Field(description="Degrees Celsius; null where the card doesn't tell.")
    power: float | None = Field(description="Watts; null where the card doesn't tell.")


class NetworkInfo(BaseModel):
    name: str
    addresses: list[str]
    speed: int | None = Field(description="Mbit/s; null: it doesn't say.")


class CordonInfo(BaseModel):
    """A worker that gets nothing new, neither requests nor Dask tasks. It is empty when nothing is left of either."""

    reason: str
    since: str
    drained: bool = Field(description="Its results in Dask are moved to other workers too.")
    tasks: int | None = Field(description="Dask tasks that it still has; null where that isn't known.")
    results: int | None = Field(description="Results that still are on it alone, though others could take them.")
    untold: str | None = Field(description="Why Dask doesn't know of it; it is told as soon as that can be.")


class CordonRequest(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "new fans"}]})

    reason: str = Field("", max_length=200, description="For people who look at the status.")


class WorkerInfo(BaseModel):
    """cpu is a share of 0 to 1, memory is bytes; null where the last heartbeat is missing or too old."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    state: str = Field(description="joining, active, draining, down, or asleep: a standby host.")
    reason: str | None = Field(description="Why it isn't active.")
    in_flight: int
    slots: int
    dask_tasks: int | None
    placed: list[str]
    models: list[str] = Field(description="On its disk.")
    loaded: list[str] = Field(description="In its memory.")
    engine_version: str | None
    cpu: float | None
    memory_used: int | None
    memory_total: int | None
    cpus: float | None = Field(description="CPUs that its host and its service let it have.")
    memory_limit: int | None = Field(description="Bytes that its host and its service let it have.")
    disk_free: int | None
    disk_total: int | None
    gpu: list[GpuInfo]
    networks: list[NetworkInfo] = Field(description="Those that are up.")
    release: str | None = Field(description="The digest of the release that its host runs; null: it has none.")
    reported: str | None = Field(description="When it said so, in UTC.")
    dask: Literal["present", "silent", "absent"] | None = Field(
        description="Its Dask worker, which runs tasks. silent: not heard of for about ten seconds, so it gets none; "
        "null: the scheduler is away."
    )
    isolation: Literal["cgroup", "process"] | None = Field(
        description="What bounds its tasks' memory. cgroup: also their CPUs, and all that they start."
    )
    isolation_reason: str | None = Field(description="Why it isn't cgroup.")
    warnings: list[str] = Field(description="Where it isn't what cluster.yaml says, or its tasks don't go on.")
    cordon: CordonInfo | None = Field(description="null: nobody has cordoned or drained it.")


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


def cordon_info(worker: Worker, cordons: Cordons) -> CordonInfo | None:
    cordon, left = worker.cordon, cordons.left(worker)
    if cordon is None:
        return None
    return CordonInfo(
        reason=cordon.reason,
        since=cordon.when,
        drained=cordon.drained,
        tasks=left.tasks if left else None,
        results=left.results if left else None,
        untold=cordons.untold or None,
    )


def worker_info(worker: Worker, view: View | None, cordons: Cordons, elsewhere: int) -> WorkerInfo:
    """view: of Dask's workers. elsewhere: what gateways that end have under way there."""
    member = view.members.get(worker.name) if view is not None else None
    told = member.report if member is not None else None
    return WorkerInfo(
        name=worker.name,
        state=worker.state.value,
        reason=worker.reason or None,
        in_flight=worker.in_flight + elsewhere,
        slots=worker.slots,
        dask_tasks=member.executing if member is not None else None,
        placed=sorted(worker.placed),
        models=sorted(worker.present),
        loaded=sorted(worker.loaded),
        engine_version=worker.engine.version or None,
        cpu=told.cpu if told else None,
        memory_used=told.memory_used if told else None,
        memory_total=told.memory_total if told else None,
        cpus=told.cpus if told else None,
        memory_limit=told.memory_limit if told else None,
        disk_free=told.disk_free if told else None,
        disk_total=told.disk_total if told else None,
        gpu=[
            GpuInfo(
                index=g.index,
                name=g.name,
                memory_used=g.memory_used,
                memory_total=g.memory_total,
                usage=g.usage,
                temperature=g.temperature,
                power=g.power,
            )
            for g in (told.gpus if told else ())
        ],
        networks=[
            NetworkInfo(name=n.name, addresses=list(n.addresses), speed=n.speed)
            for n in (told.networks if told else ())
        ],
        release=told.release if told else None,
        reported=when(told.at) if told else None,
        dask=_dask(view, member),
        isolation=None if told is None or told.isolation is None else "process" if told.isolation else "cgroup",
        isolation_reason=(told.isolation or None) if told else None,
        warnings=list(findings(worker.upstream, member)),
        cordon=cordon_info(worker, cordons),
    )


def _dask(view: View | None, member: Member | None) -> Literal["present", "silent", "absent"] | None:
    if view is None:
        return None
    return "absent" if member is None else "silent" if member.silent else "present"


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/cluster/workers", tags=["workers"])
    fleet, changes = parts.fleet, FleetChanges(parts.database)
    configured = frozenset(u.name for u in parts.settings.upstreams)

    def info(worker: Worker) -> WorkerInfo:
        elsewhere = parts.elders.in_flight().get(worker.name, 0)
        return worker_info(worker, parts.membership.view, parts.cordons, elsewhere)

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
