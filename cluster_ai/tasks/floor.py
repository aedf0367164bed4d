"""Which workers are there, what each takes at once, and how much of that is taken, as the scheduler said last. Pure.

A task that may not repeat can't leave its worker, so it is given one only when that has room for it and was heard of
just now: until then it belongs to nobody, and whoever has room first gets it, be that a small worker or a large one.
What may move is Dask's to place; it only counts where there is a choice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cluster_ai.settings import TaskWorker, worker_of
from cluster_ai.tasks import placing
from cluster_ai.tasks.model import Spec, Task

FULL = 1 - 1e-9  # of what a worker takes at once; parts of it add up to a little less


class Floor:
    """there: the addresses of each worker's processes; running: the workers that take tasks now."""

    def __init__(self, workers: Sequence[TaskWorker]) -> None:
        self.workers = tuple(workers)  # as each says that it is, once it has been there
        self._declared = self.workers
        self.there: dict[str, frozenset[str]] = {}
        self.running: frozenset[str] = frozenset()
        self.threads = 0
        self._has: dict[str, dict[str, float]] = {}
        self._load: dict[str, float] = {}  # of all tasks that are there, in parts of what it takes at once
        self._kept: dict[str, float] = {}  # likewise, of those that may not leave it

    def look(self, identity: Mapping[str, Any], left: Mapping[str, Mapping[str, float]], late: Collection[str]) -> None:
        """identity: the scheduler's. left: of each process's Dask resources, by address; none: it didn't say. late:
        addresses of those whose last heartbeats are missing."""
        found = {address: it for address, it in identity["workers"].items() if it.get("status") != "closed"}
        there: defaultdict[str, set[str]] = defaultdict(set)
        has: defaultdict[str, Counter[str]] = defaultdict(Counter)
        taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for address, it in found.items():
            name, resources = worker_of(str(it["name"])), it.get("resources") or {}
            there[name].add(address)
            has[name].update(resources)
            taken[name].update({each: resources.get(each, 0) - rest for each, rest in left.get(address, {}).items()})
        self.there = {name: frozenset(addresses) for name, addresses in there.items()}
        prompt = (it for address, it in found.items() if it.get("status") == "running" and address not in late)
        self.running = frozenset(worker_of(str(it["name"])) for it in prompt)
        self.threads = sum(int(it["nthreads"]) for it in found.values())
        first = {str(it["name"]): it.get("resources") or {} for it in found.values()}
        self.workers = tuple(
            placing.limited(told, first[told.name]) if told.name in first else now
            for told, now in zip(self._declared, self.workers, strict=True)
        )
        self._has = {it.name: placing.whole(it, has[it.name]) for it in self.workers if it.name in has}
        self._load = {name: placing.part(taken[name], self._has[name]) for name in self._has}

    def recount(self, kept: Iterable[Task]) -> None:
        """Those tasks that have a worker each, and may not leave it."""
        self._kept = {}
        for task in kept:
            if task.worker is not None:
                self._kept[task.worker] = self._kept.get(task.worker, 0) + self._part(task.worker, task.spec)

    def takes(self, name: str) -> bool:
        """Whether it may be given one more that may not leave it."""
        return name in self.running and self._kept.get(name, 0) < FULL

    def choose(self, spec: Spec, names: Iterable[str]) -> str:
        """Of these workers, the one that has the least with it; from now on it is there."""
        parts = {name: self._part(name, spec) for name in names}
        chosen = min(parts, key=lambda name: (self._load.get(name, 0) + parts[name], name))
        for counted in (self._load, self._kept):
            counted[chosen] = counted.get(chosen, 0) + parts[chosen]
        return chosen

    def _part(self, name: str, spec: Spec) -> float:
        return placing.part(placing.resources(spec), self._has.get(name, {}))
