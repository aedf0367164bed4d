"""Why a model is on these workers and not on others, as the native API tells it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.gateway.api.native.parts import Parts
from cluster_ai.gateway.models.registry import Where
from cluster_ai.placement.explain import explain
from cluster_ai.placement.room import Processor, Wanted

EXAMPLE: JsonDict = {
    "name": "llama2:13b",
    "memory": {
        "total": 12034048092,
        "weights": 7365960935,
        "cache": 4049789109,
        "why": "its weights, the f16 cache of 4096 tokens for 1 slot, and buffers",
    },
    "replicas": 1,
    "workers": [
        {
            "worker": "gpu-worker-01",
            "state": "loaded",
            "holds": True,
            "processor": "gpu",
            "free_gpu": 24000000000,
            "free_ram": 25600000000,
            "tokens_per_second": 41.5,
            "why": "placed on GPU, 12 GB: its replica",
        },
        {
            "worker": "cpu-worker-01",
            "state": None,
            "holds": False,
            "processor": "cpu",
            "free_gpu": 0,
            "free_ram": 51200000000,
            "tokens_per_second": None,
            "why": "would fit, but one replica is wanted, and gpu-worker-01 has it on GPU, where here it would run in "
            "RAM",
        },
    ],
}


class MemoryNeed(BaseModel):
    """Of one replica. weights and cache are parts of total, null where not known apart; buffers are the rest."""

    total: int
    weights: int | None
    cache: int | None
    why: str = Field(description="Where these numbers come from.")


class WorkerReason(BaseModel):
    worker: str
    state: Where | None = Field(description="As in `workers` of a model; null: it neither has it nor should.")
    holds: bool = Field(description="A replica is there, or belongs there.")
    processor: Processor | None = Field(description="Where it runs, or would; null: it wouldn't fit.")
    free_gpu: int | None = Field(description="Bytes of the cards' memory beside all other models; null: not known.")
    free_ram: int | None
    tokens_per_second: float | None = Field(description="Of one answer there, as measured lately.")
    why: str


class ModelExplanation(BaseModel):
    """Why a model is on these workers, and not on others."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: str
    memory: MemoryNeed
    replicas: int | None = Field(description="As cluster.yaml says; null: one on every worker where it fits.")
    workers: list[WorkerReason] = Field(description="All workers, those that hold it first.")


def explanation(parts: Parts, wanted: Wanted) -> ModelExplanation:
    fleet, name, need = parts.fleet, wanted.name, wanted.need
    placed = frozenset(w.name for w in fleet.workers.values() if name in w.placed)
    if name not in parts.known.named:
        placed = frozenset(w.name for w in fleet.workers.values() if name in w.present)
    stand_ins = {it.worker: it.instead_of for it in parts.stand_ins if it.model == name}
    states = {it.worker: it.state for it in parts.known.copies(name)}
    return ModelExplanation(
        name=name,
        memory=MemoryNeed(total=need.memory, weights=need.weights, cache=need.cache, why=need.why),
        replicas=wanted.replicas,
        workers=[
            WorkerReason(
                worker=it.worker,
                state=states.get(it.worker),
                holds=it.holds,
                processor=it.processor,
                free_gpu=it.free_gpu,
                free_ram=it.free_ram,
                tokens_per_second=round(it.speed, 2) if it.speed else None,
                why=it.why,
            )
            for it in explain(wanted, parts.known.seats(), placed, stand_ins)
        ],
    )
