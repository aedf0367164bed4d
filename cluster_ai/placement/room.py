"""One worker weighed for one model: whether it fits beside the others, and who comes before whom. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster_ai.placement.memory import Need
from cluster_ai.sizes import counted, format_size

Processor = Literal["gpu", "cpu"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a worker gives to models, in bytes."""

    gpu: int
    ram: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that is to be served. replicas None: on every worker where it fits."""

    name: str
    need: Need
    replicas: int | None = 1


@dataclass(frozen=True, slots=True)
class Held:
    """What one model takes of a worker, in bytes: set aside for it, or measured where it takes more."""

    processor: Processor
    memory: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker as it is now. Models' names are canonical."""

    worker: str
    budget: Budget | None  # None: nobody said
    held: Mapping[str, Held] = field(default_factory=dict)
    present: frozenset[str] = frozenset()  # on its disk
    closed: str = ""  # why nothing may be put there now
    speeds: Mapping[str, float] = field(default_factory=dict)  # tokens per second that were measured lately
    stated: Mapping[str, float] = field(default_factory=dict)  # and those that cluster.yaml has, of any models

    def free(self, processor: Processor, beside: str = "") -> int | None:
        """Bytes that others than the model `beside` leave; None: unknown."""
        if self.budget is None:
            return None
        given = self.budget.gpu if processor == "gpu" else self.budget.ram
        return given - sum(h.memory for m, h in self.held.items() if h.processor == processor and m != beside)

    def fits(self, model: Wanted) -> Processor | None:
        """On a GPU where it can be, else in RAM."""
        spots: tuple[Processor, ...] = ("gpu", "cpu")
        return next((p for p in spots if (self.free(p, model.name) or 0) >= model.need.memory), None)

    def why_not(self, model: Wanted) -> str:
        """What keeps the model away, for people; empty where nothing does."""
        if self.closed:
            return self.closed
        if self.budget is None:
            return "nobody said how much memory it has"
        if self.fits(model):
            return ""
        others = len(self.held.keys() - {model.name})
        beside = f" beside {counted(others, 'other model')}" if others else ""
        return f"needs {format_size(model.need.memory)}; free{beside}: {self.room(model.name)}"

    def room(self, beside: str = "") -> str:
        gpu, ram = self.free("gpu", beside), self.free("cpu", beside)
        on_gpu = f"{format_size(max(0, gpu))} on GPU, " if self.budget and self.budget.gpu and gpu is not None else ""
        return f"{on_gpu}{format_size(max(0, ram or 0))} in RAM"

    def with_model(self, model: str, held: Held) -> Seat:
        return replace(self, held={**self.held, model: held})


def affinity(model: str, worker: str) -> int:
    """Rendezvous hashing: an order of workers of each model's own, which moves little when a worker comes or goes."""
    return int.from_bytes(hashlib.blake2b(f"{model}\0{worker}".encode(), digest_size=8).digest())


def preference(
    model: str, worker: str, processor: Processor, others: int, times: int = 1
) -> tuple[bool, float, int, int, str]:
    """The smaller, the better. others: models that the worker has besides. times: as how many workers it counts."""
    return processor == "cpu", (others + 1) / times, -times, -affinity(model, worker), worker


def choices(model: Wanted, seats: Iterable[Seat]) -> list[tuple[Seat, Processor]]:
    """Where one more replica may be put at run time, the best first.

    Who has it on disk comes first, for it is there in seconds; then as placement has it, but a worker that was measured
    to be quick with it before one that only has fewer models.
    """
    fitting = [(seat, p) for seat in seats if not seat.closed and (p := seat.fits(model)) is not None]
    return sorted(fitting, key=lambda it: _key(model.name, *it))


def _key(model: str, seat: Seat, processor: Processor) -> tuple[bool, bool, float, tuple[bool, float, int, int, str]]:
    others = len(seat.held.keys() - {model})
    absent, speed = model not in seat.present, seat.speeds.get(model, 0.0)
    return absent, processor == "cpu", -speed, preference(model, seat.worker, processor, others)
