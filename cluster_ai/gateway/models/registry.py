"""What is known of each model and of each worker for it: metadata, states, and what placement weighs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from cluster_ai.engine.client import LoadedModel, canonical
from cluster_ai.gateway.api import catalog
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.fleet import IN_MEMORY, Fleet, State, Worker
from cluster_ai.gateway.models.memory import Memory
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.gateway.relay import LostError
from cluster_ai.placement.memory import Need, Runs, Shape, of_weights
from cluster_ai.placement.repair import LOAD
from cluster_ai.placement.room import Budget, Held, Processor, Seat, Wanted
from cluster_ai.settings import CatalogModel, GatewaySettings
from cluster_ai.sizes import format_size

Where = Literal["loaded", "loading", "present", "missing"]
ASKED_WITHIN = 3.0  # seconds that an engine may take to tell of a model
_LICENSE = 120  # characters of a license's first line, where it has no short name


@dataclass(frozen=True, slots=True)
class Copy:
    """A model on one worker. missing: it should be there, and can't be used there now. reason: what people may ask."""

    worker: str
    state: Where
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """What an engine tells only when it is asked about one model. limit: tokens of context that it was made for."""

    license: str | None = None
    limit: int | None = None
    shape: Shape | None = None

    @classmethod
    def of(cls, said: dict[str, Any]) -> Details:
        """From Ollama's /api/show."""
        info = said.get("model_info")
        info = info if isinstance(info, dict) else {}
        limit = info.get(f"{info.get('general.architecture')}.context_length")
        text = info.get("general.license") or said.get("license") or ""
        lines = str(text).strip().splitlines()
        return cls(
            lines[0].strip()[:_LICENSE] if lines else None, limit if isinstance(limit, int) else None, Shape.of(info)
        )


class Registry:
    def __init__(self, settings: GatewaySettings, fleet: Fleet, memory: Memory, stand_ins: StandIns) -> None:
        self.named = {canonical(it.name): it for it in settings.catalog}  # by cluster.yaml
        self._fleet, self._memory, self._stand_ins, self._cache = fleet, memory, stand_ins, settings.kv_cache
        self._details: dict[str, Details] = {}  # by digest

    def source(self, name: str) -> str | None:
        """Where it comes from: a GGUF file's name, "registry", or None where cluster.yaml doesn't name it."""
        named = self.named.get(name)
        return None if named is None else named.source or "registry"

    def copies(self, name: str) -> list[Copy]:
        """Of every worker that has it, or should."""
        return [
            self._copy(worker, name)
            for worker in self._fleet.workers.values()
            if name in worker.placed or name in worker.present or self._stand_ins.of(name, worker.name)
        ]

    def _copy(self, worker: Worker, name: str) -> Copy:
        stand_in = self._stand_ins.of(name, worker.name)
        why = "" if name in worker.placed else "not placed there"
        if stand_in is not None:
            lost = stand_in.instead_of
            why = "added by the autoscaler" if lost == LOAD else f"stands in for {lost}"
        if worker.state in (State.DOWN, State.JOINING, State.ASLEEP):
            return Copy(worker.name, "missing", f"the worker is {worker.state.value}: {worker.reason}")
        if worker.state is State.DRAINING:
            why = "; ".join(filter(None, (why, f"the worker is {worker.reason}")))
        if name in worker.loaded:
            return Copy(worker.name, "loaded", why)
        if any(flight.model == name for flight in worker.flights):
            return Copy(worker.name, "loading", why)
        if name in worker.present:
            return Copy(worker.name, "present", why)
        return Copy(worker.name, "missing", why or "it isn't on the worker's disk")

    async def details(self, names: Iterable[str]) -> dict[str, Details]:
        """What engines say of them, asked once for each digest; nothing of those that nobody can be asked about."""
        asked = [name for name in names if self._fleet.able(name) and self._digest(name) not in self._details]
        await asyncio.gather(*(self._ask(name) for name in asked))
        return {name: self._details[self._digest(name)] for name in names if self._digest(name) in self._details}

    async def _ask(self, name: str) -> None:
        digest = self._digest(name)
        try:
            async with asyncio.timeout(ASKED_WITHIN):
                self._details[digest] = Details.of(await self._memory.show(name))
        except (Refusal, LostError, TimeoutError):
            return  # another time

    def _digest(self, name: str) -> str:
        known = catalog.metadata(self._fleet, name)
        return known.digest if known else ""

    def wanted(self, name: str, details: Details | None = None) -> Wanted | None:
        """As placement takes it. What cluster.yaml doesn't name is weighed by what is seen of it; None: nothing is."""
        named = self.named.get(name)
        if named is not None:
            return Wanted(name, _need(named), named.replicas)
        known = catalog.metadata(self._fleet, name)
        if known is None:
            return None
        holders = self._fleet.able(name) or tuple(w for w in self._fleet.workers.values() if name in w.present)
        return Wanted(name, self._estimated(name, known.size, holders, details), len(holders))

    def _estimated(self, name: str, size: int, holders: tuple[Worker, ...], details: Details | None) -> Need:
        running = [m for w in holders if (m := w.loaded_model(name))]
        context = self._fleet.contexts.get(name) or next((m.context_length for m in running if m.context_length), None)
        if details is not None and details.shape is not None and context is not None:
            slots = max((w.slots for w in holders), default=1)
            need = of_weights(size, details.shape, Runs(context, slots, self._cache))
        else:
            need = Need(int(size * IN_MEMORY), f"estimated from its size on disk, {format_size(size)}", size)
        measured = max((m.size for m in running), default=0)
        return replace(need, memory=measured, why="as the engine says, which has it in memory") if measured else need

    def all_named(self) -> list[Wanted]:
        """What cluster.yaml names."""
        return [Wanted(name, _need(it), it.replicas) for name, it in self.named.items()]

    def seats(self) -> list[Seat]:
        """All workers."""
        return [self._seat(worker) for worker in self._fleet.workers.values()]

    def _seat(self, worker: Worker) -> Seat:
        told = worker.upstream
        return Seat(
            worker=worker.name,
            budget=None if told.ram_room is None else Budget(told.gpu_room, told.ram_room),
            held=dict(self._held(worker)),
            present=frozenset(worker.present),
            closed=_closed(worker),
            speeds=worker.speeds.all(),
            stated=worker.stated,
        )

    def _held(self, worker: Worker) -> Iterator[tuple[str, Held]]:
        """What is set aside for what belongs there, and what is in memory besides."""
        standing = {it.model: it for it in self._stand_ins if it.worker == worker.name}
        for name in sorted({*worker.placed, *standing, *worker.loaded}):
            loaded, named, known = worker.loaded_model(name), self.named.get(name), worker.present.get(name)
            wanted = named.memory if named else int(known.size * IN_MEMORY) if known else 0
            processor: Processor = "gpu" if name in worker.on_cards else "cpu"
            if name in standing:
                processor = standing[name].processor
            if loaded is not None and not worker.flaws.get(name):
                processor = _where(loaded)
            yield name, Held(processor, max(wanted, loaded.size if loaded else 0))


def _where(loaded: LoadedModel) -> Processor:
    return "gpu" if loaded.size_vram else "cpu"


def _need(named: CatalogModel) -> Need:
    return Need(named.memory, named.why, named.weights, named.cache)


def _closed(worker: Worker) -> str:
    if worker.state is State.ACTIVE:
        return f"requests fail there: {worker.breaker.reason}" if worker.breaker.opened is not None else ""
    if worker.state is State.DRAINING:
        return f"the worker is {worker.reason}"
    return f"the worker is {worker.state.value}: {worker.reason}"
