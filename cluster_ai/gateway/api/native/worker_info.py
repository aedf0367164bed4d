"""What is told of one worker, everywhere that the native API tells of workers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.cluster.membership import Member, View
from cluster_ai.gateway.api.native.sessions import when
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.findings import findings
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
    memory_used: int | None = Field(description="Bytes; null: it has none of its own, it shares the host's.")
    memory_total: int | None = Field(description="Bytes; null as memory_used.")
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


def worker_info(worker: Worker, view: View | None, cordons: Cordons) -> WorkerInfo:
    """view: of Dask's workers."""
    member = view.members.get(worker.name) if view is not None else None
    told = member.report if member is not None else None
    return WorkerInfo(
        name=worker.name,
        state=worker.state.value,
        reason=worker.reason or None,
        in_flight=worker.in_flight,
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
