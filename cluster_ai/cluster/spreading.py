"""In the Dask scheduler: a task that waits on its worker for a resource goes to another worker that has it free.

Dask's own stealing looks at threads. A worker of ours has more threads than of any one resource, since what waits for
the engine must not keep what computes from beginning; so a worker whose CPU is taken is, to Dask, not full, and what
waits there waits though a worker that joined since is idle. Stealing itself is Dask's: the worker is asked first, and
gives away only what it hasn't begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

_log = logging.getLogger(__name__)

SWEEP = 0.5  # seconds


class Spreading(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    name = "cluster-ai-spreading"

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._sweeper: asyncio.Task[None] | None = None
        self.waiting = 0  # tasks that no worker has room for, as of the last sweep; those for the engine don't count

    def add_worker(self, scheduler: Any, worker: str) -> None:
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweeping(), name=self.name)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _sweeping(self) -> None:
        while self._scheduler.workers:
            await asyncio.sleep(SWEEP)
            try:
                self._sweep()
            except Exception:  # a worker that is half gone must not leave the others to themselves
                _log.exception("a sweep over workers with waiting tasks failed")

    def _sweep(self) -> None:
        running = list(self._scheduler.running)
        free = {ws: left(ws) for ws in running}
        stuck: set[tuple[frozenset[Any], ...]] = set()  # kinds of need for which nobody is free, nor gets free now
        waiting = 0
        for victim in running:
            short = {name for name, amount in free[victim].items() if amount < 0}
            if not short:
                continue
            for ts in sorted(victim.processing, key=lambda it: it.priority):
                needs = ts.resource_restrictions or {}
                if ts in victim.executing or ts.actor or short.isdisjoint(needs):
                    continue
                kind = tuple(
                    frozenset(it or ()) for it in (needs.items(), ts.worker_restrictions, ts.host_restrictions)
                )
                if kind in stuck:
                    waiting += "ENGINE" not in needs
                    continue
                valid = self._scheduler.valid_workers(ts) or ()
                thief = next((ws for ws in valid if ws is not victim and fits(needs, free.get(ws, {}))), None)
                if thief is None:
                    stuck.add(kind)
                    waiting += "ENGINE" not in needs
                    continue
                take(free[thief], needs)
                self._scheduler.extensions["stealing"].move_task_request(ts, victim, thief)
        self.waiting = waiting


def left(ws: Any) -> dict[str, float]:
    """What its tasks leave of a worker's resources; below zero, some of them wait.

    From the tasks themselves: the scheduler's own sums are wrong once a task was stolen.
    """
    found: dict[str, float] = dict(ws.resources)
    for ts in ws.processing:
        take(found, ts.resource_restrictions or {})
    return found


def take(free: dict[str, float], needs: Mapping[str, float]) -> None:
    for name, amount in needs.items():
        free[name] = free.get(name, 0) - amount


def fits(needs: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(free.get(name, 0) >= amount for name, amount in needs.items())
