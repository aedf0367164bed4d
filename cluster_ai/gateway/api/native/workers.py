"""Each worker: how it is, and whether it gets anything new."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.cluster.membership import Member
from cluster_ai.gateway.api.native.parts import PREFIX, Administering, Parts, WorkerName, refusals
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.fleet import Worker

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
    "disk_free": 209379655680,
    "gpu": [
        {
            "index": 0,
            "name": "NVIDIA GeForce RTX 3090",
            "memory_used": 9126805504,
            "memory_total": 25769803776,
            "usage": 0.87,
        }
    ],
    "cordon": None,
}


class GpuInfo(BaseModel):
    index: int
    name: str
    memory_used: int
    memory_total: int
    usage: float | None


class CordonInfo(BaseModel):
    """A worker that gets nothing new, neither requests nor Dask tasks. It is empty when nothing is left of either."""

    reason: str
    since: str
    drained: bool = Field(description="Its results in Dask are moved to other workers too.")
    tasks: int | None = Field(description="Dask tasks that it still has; null where that isn't known.")
    results: int | None = Field(description="Results that still are on it alone, though others could take them.")
    untold: str | None = Field(description="Why Dask doesn't know of it; it is told as soon as that can be.")


class CordonRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "new fans"}]})

    reason: str = Field("", max_length=200, description="For people who look at the status.")


class WorkerInfo(BaseModel):
    """cpu is a share of 0 to 1, memory is bytes; null where the last heartbeat is missing or too old."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    state: str = Field(description="joining, active, draining or down.")
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
    disk_free: int | None
    gpu: list[GpuInfo]
    cordon: CordonInfo | None = Field(description="null: nobody has cordoned or drained it.")


class Workers(BaseModel):
    workers: list[WorkerInfo]


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


def worker_info(worker: Worker, member: Member | None, cordons: Cordons, elsewhere: int) -> WorkerInfo:
    """elsewhere: what gateways that end have under way there."""
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
        disk_free=told.disk_free if told else None,
        gpu=[
            GpuInfo(index=g.index, name=g.name, memory_used=g.memory_used, memory_total=g.memory_total, usage=g.usage)
            for g in (told.gpus if told else ())
        ],
        cordon=cordon_info(worker, cordons),
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/cluster/workers", tags=["workers"])

    def info(worker: Worker) -> WorkerInfo:
        view = parts.membership.view
        member = view.members.get(worker.name) if view is not None else None
        return worker_info(worker, member, parts.cordons, parts.elders.in_flight().get(worker.name, 0))

    @router.get("", summary="Every worker, now", operation_id="listWorkers", responses=refusals())
    async def workers() -> Workers:
        return Workers(workers=[info(worker) for worker in parts.fleet.workers.values()])

    @router.get("/{name}", summary="One worker, now", operation_id="getWorker", responses=refusals(404))
    async def worker(name: WorkerName) -> WorkerInfo:
        return info(parts.worker(name))

    @router.post(
        "/{name}/cordon",
        summary="Give a worker nothing new, until resume; it finishes what it has",
        operation_id="cordonWorker",
        responses=refusals(404),
    )
    async def cordon(name: WorkerName, user: Administering, body: CordonRequest | None = None) -> WorkerInfo:
        found = parts.worker(name)
        await parts.cordons.cordon(found, body.reason if body else "", drain=False)
        return info(found)

    @router.post(
        "/{name}/drain",
        summary="Cordon a worker, and move what only it holds in Dask. `cordon` in the status tells what is left",
        operation_id="drainWorker",
        responses=refusals(404),
    )
    async def drain(name: WorkerName, user: Administering, body: CordonRequest | None = None) -> WorkerInfo:
        found = parts.worker(name)
        await parts.cordons.cordon(found, body.reason if body else "", drain=True)
        return info(found)

    @router.post(
        "/{name}/resume",
        summary="Give a cordoned or drained worker requests and tasks again",
        operation_id="resumeWorker",
        responses=refusals(404),
    )
    async def resume(name: WorkerName, user: Administering) -> WorkerInfo:
        found = parts.worker(name)
        await parts.cordons.resume(found)
        return info(found)

    return router
