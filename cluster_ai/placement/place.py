"""Models to workers. Pure: the same configuration gives the same placement, in whatever order the file lists things.

Every replica goes to another worker, to GPU memory where it fits, else to RAM. Workers with fewer models come first,
where one that was measured to be twice as quick may have twice as many: among equals each model has an order of its own
(rendezvous hashing), so that a worker that comes or goes moves little besides its own models. Where this greedy way
leads nowhere, a bounded search looks for another before it gives up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cluster_ai.config.model import Config, Model, Worker
from cluster_ai.errors import ErrorGroup, PlacementError
from cluster_ai.placement.memory import Need
from cluster_ai.placement.need import budget, need, not_quantizable
from cluster_ai.placement.room import Processor, preference
from cluster_ai.placement.speed import Pace, compare
from cluster_ai.sizes import counted, format_size

SEARCH_STEPS = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Assignment:
    """One replica. memory: bytes set aside for it."""

    model: str
    worker: str
    processor: Processor
    memory: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Sorted by model, then worker."""

    assignments: tuple[Assignment, ...]

    def on(self, worker: str) -> tuple[Assignment, ...]:
        """What one worker serves."""
        return tuple(a for a in self.assignments if a.worker == worker)

    def of(self, model: str) -> tuple[Assignment, ...]:
        """Where one model is served."""
        return tuple(a for a in self.assignments if a.model == model)

    def workers(self) -> dict[str, tuple[str, ...]]:
        """Where each model is served."""
        found: dict[str, tuple[str, ...]] = {}
        for assignment in self.assignments:
            found[assignment.model] = (*found.get(assignment.model, ()), assignment.worker)
        return found


@dataclass(frozen=True, slots=True)
class _Item:
    model: Model
    need: Need
    replicas: int  # at least
    pace: Pace


class _Space:
    """What is free, while placing."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        budgets = {worker.name: budget(worker.resources) for worker in workers}
        self.free: dict[tuple[str, Processor], int] = {}
        for name, given in budgets.items():
            self.free[name, "gpu"], self.free[name, "cpu"] = given.gpu, given.ram
        self.cards = {name: given.gpu > 0 for name, given in budgets.items()}
        self.count = dict.fromkeys(budgets, 0)
        self.placed: list[Assignment] = []

    def put(self, assignment: Assignment) -> None:
        self.free[assignment.worker, assignment.processor] -= assignment.memory
        self.count[assignment.worker] += 1
        self.placed.append(assignment)

    def take_back(self) -> None:
        assignment = self.placed.pop()
        self.free[assignment.worker, assignment.processor] += assignment.memory
        self.count[assignment.worker] -= 1

    def choices(self, item: _Item) -> list[tuple[str, Processor]]:
        """Where one more replica would fit, the best first."""
        fits = [spot for spot, free in self.free.items() if free >= item.need.memory]
        return sorted(fits, key=lambda spot: self._preference(item, *spot))

    def _preference(self, item: _Item, worker: str, processor: Processor) -> tuple[bool, float, int, int, str]:
        times = item.pace.times(worker, processor, cards=self.cards[worker])
        return preference(item.model.name, worker, processor, self.count[worker], times)


def place(config: Config) -> Placement:
    """On workers that never sleep. Raises PlacementError, or ErrorGroup where several models by themselves can't be
    placed.
    """
    config = replace(config, workers=tuple(worker for worker in config.workers if worker.standby is None))
    measured = {worker.name: worker.speeds for worker in config.workers}
    items = sorted(
        (
            _Item(
                model,
                need(model, config.engine),
                1 if model.replicas == "all" else model.replicas,
                compare(model.name, measured),
            )
            for model in config.models
        ),
        key=lambda item: (-item.need.memory, item.model.name),
    )
    if wrong := [error for model in config.models if (error := _unquantizable(config, model))]:
        raise wrong[0] if len(wrong) == 1 else ErrorGroup(wrong)
    if hopeless := [error for item in items if (error := _too_big(config, item, _Space(config.workers), alone=True))]:
        raise hopeless[0] if len(hopeless) == 1 else ErrorGroup(hopeless)
    space = _Space(config.workers)
    if not _search(space, items, [SEARCH_STEPS]):
        raise _crowded(config, items)
    for item in items:
        if item.model.replicas == "all":
            _fill(space, item)
    return Placement(tuple(sorted(space.placed)))


def _unquantizable(config: Config, model: Model) -> PlacementError | None:
    why = not_quantizable(model)
    if not why:
        return None
    return PlacementError(
        f"model {model.name!r} can't be quantized: {model.source} {why}",
        model=model.name,
        where=str(config.path),
        remedy="leave quantize out, or name the file before it was quantized",
    )


def _search(space: _Space, items: Sequence[_Item], steps: list[int]) -> bool:
    """Place all items, going back where one doesn't fit, for as long as there are steps left."""
    if not items:
        return True
    item, rest = items[0], items[1:]
    return any(_search(space, rest, steps) for _ in _ways(space, item, space.choices(item), item.replicas, steps))


def _ways(
    space: _Space, item: _Item, choices: list[tuple[str, Processor]], replicas: int, steps: list[int]
) -> Iterator[None]:
    """Yields with the replicas placed, once for each way; what one way put is taken back when the next is asked for."""
    if replicas == 0:
        yield
        return
    for index, (worker, processor) in enumerate(choices):
        if steps[0] <= 0:
            return
        steps[0] -= 1
        space.put(Assignment(item.model.name, worker, processor, item.need.memory))
        left = [choice for choice in choices[index + 1 :] if choice[0] != worker]
        yield from _ways(space, item, left, replicas - 1, steps)
        space.take_back()


def _fill(space: _Space, item: _Item) -> None:
    """For `replicas: all`: one replica on every other worker where it fits."""
    has = {a.worker for a in space.placed if a.model == item.model.name}
    for worker, processor in space.choices(item):
        if worker not in has:
            has.add(worker)
            space.put(Assignment(item.model.name, worker, processor, item.need.memory))


def _crowded(config: Config, items: Sequence[_Item]) -> PlacementError:
    """Each model fits by itself, but not all together: name the first for which nothing is left on the greedy way."""
    space = _Space(config.workers)
    for item in items:
        if error := _too_big(config, item, space, alone=False):
            return error
        for _ in _ways(space, item, space.choices(item), item.replicas, [SEARCH_STEPS]):
            break
    raise AssertionError("the greedy way places everything, so the search would have")


def _too_big(config: Config, item: _Item, space: _Space, *, alone: bool) -> PlacementError | None:
    fits = {worker for worker, _ in space.choices(item)}
    if len(fits) >= item.replicas:
        return None
    model, each = item.model, format_size(item.need.memory)
    replicas = (
        "at least one replica"
        if model.replicas == "all"
        else "its replica"
        if item.replicas == 1
        else f"each of its {item.replicas} replicas"
    )
    beside = "" if alone else " beside the other models"
    where = (
        f"fits on {len(fits)} of {counted(len(config.workers), 'worker')}{beside}"
        if fits
        else f"fits on no worker{beside}"
    )
    lines = [f"model {model.name!r} needs {each} for {replicas} ({item.need.why}) and {where}"]
    for worker in sorted(config.workers, key=lambda w: w.name):
        gpu, ram = space.free[worker.name, "gpu"], space.free[worker.name, "cpu"]
        on_gpu = f"{format_size(gpu)} on GPU, " if worker.resources.gpu else ""
        lines.append(f"    {worker.name}: free {on_gpu}{format_size(ram)} in RAM")
    remedy = f"set replicas to {len(fits)}, or " if fits else ""
    remedy += "take a smaller model or a worker with more memory; where the need is less, say so with resources.memory"
    return PlacementError("\n".join(lines), model=model.name, where=str(config.path), remedy=remedy)
