"""What the gateway knows of the cluster now, and what the person who asks may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.gateway import Caller, Gateway


@dataclass(frozen=True, slots=True)
class ServedModel:
    name: str
    size: int | None  # bytes
    parameters: str | None  # such as 13B
    quantization: str | None
    context: int | None  # tokens
    replicas: int  # workers that it is placed on
    present: tuple[str, ...]  # workers that can answer with it now
    loaded: tuple[str, ...]  # workers that hold it in memory
    memory: int | None = None  # bytes that one replica takes; None: cluster.yaml doesn't place it


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    memory_used: int | None  # bytes; None: it shares the host's
    memory_total: int | None
    usage: float | None  # 0..1
    temperature: float | None  # degrees Celsius
    power: float | None  # watts


@dataclass(frozen=True, slots=True)
class Cordon:
    """Why a worker gets nothing new. tasks, results: what Dask still has there; None: not known."""

    reason: str  # "standby": the gateway's own, of a host that is to sleep
    since: str
    tasks: int | None
    results: int | None


@dataclass(frozen=True, slots=True)
class WorkerState:
    name: str
    state: str  # joining, active, draining, down or asleep
    reason: str | None  # why it isn't active
    placed: tuple[str, ...]
    in_flight: int = 0
    slots: int = 0
    engine: str | None = None  # its version
    release: str | None = None  # digest; None: its host has none
    cards: tuple[Card, ...] = ()
    cordon: Cordon | None = None

    @property
    def answers(self) -> bool:
        return self.state in ("active", "draining")


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks. may: "action resource" each, as `/whoami` tells it."""

    name: str
    role: str
    may: frozenset[str]


@dataclass(frozen=True, slots=True)
class Served:
    models: tuple[ServedModel, ...]
    workers: tuple[WorkerState, ...]
    scheduler: str | None  # why Dask's scheduler is away; None: it is there
    person: Person = Person("", "", frozenset())


def served(gateway: Gateway, caller: Caller) -> Served:
    models = gateway.get("/api/v1/models", caller)["models"]
    status = gateway.get("/api/v1/cluster/status", caller)
    who = gateway.get("/api/v1/whoami", caller)
    return Served(
        models=tuple(_model(entry) for entry in models),
        workers=tuple(_worker(entry) for entry in status["workers"]),
        scheduler=None if status["scheduler_connected"] else status["scheduler_reason"] or "it does not answer",
        person=Person(who["name"], who["role"], frozenset(who["may"])),
    )


def _model(entry: Mapping[str, Any]) -> ServedModel:
    return ServedModel(
        name=entry["name"],
        size=entry["size"],
        parameters=entry["parameter_size"],
        quantization=entry["quantization"],
        context=entry["context"],
        replicas=entry["replicas"],
        present=tuple(entry["present"]),
        loaded=tuple(entry["loaded"]),
        memory=entry["memory"],
    )


def _worker(entry: Mapping[str, Any]) -> WorkerState:
    cordon = entry["cordon"]
    return WorkerState(
        name=entry["name"],
        state=entry["state"],
        reason=entry["reason"],
        placed=tuple(entry["placed"]),
        in_flight=entry["in_flight"],
        slots=entry["slots"],
        engine=entry["engine_version"],
        release=entry["release"],
        cards=tuple(
            Card(c["name"], c["memory_used"], c["memory_total"], c["usage"], c["temperature"], c["power"])
            for c in entry["gpu"]
        ),
        cordon=Cordon(cordon["reason"], cordon["since"], cordon["tasks"], cordon["results"]) if cordon else None,
    )
