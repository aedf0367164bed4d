"""In the Dask scheduler: more worker processes on a host while tasks wait for its processors, fewer after.

Dask's AdaptiveCore decides, for each host by itself, since tasks may be pinned to a host. Dask's own target counts
threads and seconds; here a process is wanted for each share of the host's cores and memory that its tasks ask for. What
needs the engine or a card waits for those, and asks for none. The host's first process, whose share has engine and
cards, is always there and starts the others (companions.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from distributed.deploy.adaptive_core import AdaptiveCore
from distributed.diagnostics.plugin import SchedulerPlugin

from cluster_ai.cluster import moving
from cluster_ai.cluster.cordons import HEARD, SWEEP, Cordons
from cluster_ai.cluster.report import PROCESSES
from cluster_ai.settings import HostProcesses, ProcessScale, process_name, worker_of

_log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
TOLD = 100  # decisions that are kept for the gateway, which asks every other second
TIMEOUT = 10.0  # seconds for a host to begin processes


def wanted(needs: Iterable[Mapping[str, float]], share: HostProcesses) -> int:
    """How many processes these tasks would fill. needs: of each task, by Dask resource; one without takes a core."""
    cpu = memory = 0.0
    for it in needs:
        if "ENGINE" not in it and "GPU" not in it:
            cpu += it.get("CPU", 1)
            memory += it.get("MEMORY", 0)
    return max(math.ceil(cpu / share.cpu), math.ceil(memory / share.memory))


class Host(AdaptiveCore):  # type: ignore[misc]  # distributed has no types
    """The processes of one host; a token of Dask's is a process's name."""

    def __init__(self, owner: Adapting, told: HostProcesses, scale: ProcessScale) -> None:
        self._owner, self._told, self._dry = owner, told, scale.dry_run
        self.count = 1  # that should be there
        self._last: tuple[int, int] | None = None  # of the last decision that was told
        wait = max(1, math.ceil(scale.cool_down / INTERVAL))
        super().__init__(minimum=min(scale.min, told.most), maximum=told.most, wait_count=wait)

    @property
    def plan(self) -> set[str]:
        return {process_name(self._told.name, number) for number in range(1, self.count + 1)}

    @property
    def requested(self) -> set[str]:
        return self.plan

    @property
    def observed(self) -> set[str]:
        return self.plan & self._owner.processes(self._told.name).keys()

    async def target(self) -> int:
        return wanted(self._owner.needs(self._told.name), self._told)

    async def safe_target(self) -> int:
        """A cordoned host keeps none but its first."""
        return 1 if self._owner.cordoned(self._told.name) else int(await super().safe_target())

    async def workers_to_close(self, target: int) -> list[str]:
        """The latest first, and always the same ones: Dask closes what was named often enough in a row."""
        return [process_name(self._told.name, number) for number in range(target + 1, self.count + 1)]

    async def recommendations(self, target: int) -> dict[str, Any]:
        if target == self.count:
            self._last = None
        found: dict[str, Any] = await super().recommendations(target)
        return found

    async def scale_up(self, n: int) -> None:
        self._tell(n, "tasks wait for processors or memory")
        if not self._dry:
            self.count = n

    async def scale_down(self, workers: Iterable[str]) -> None:
        left = self.count - len(list(workers))
        why = "it is cordoned" if self._owner.cordoned(self._told.name) else "fewer had enough to do for a while"
        self._tell(left, why)
        if not self._dry:
            self.count = left

    def _tell(self, count: int, reason: str) -> None:
        """Once, as long as it stays the same."""
        if self._last != (self.count, count):
            self._last = self.count, count
            self._owner.tell(self._told.name, self.count, count, reason, dry_run=self._dry)


class Adapting(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    name = "cluster-ai-adapting"

    def __init__(self, scheduler: Any, cordons: Cordons, told: ProcessScale) -> None:
        self._scheduler, self._cordons = scheduler, cordons
        self._hosts = {it.name: Host(self, it, told) for it in told.hosts}
        self._leaving: dict[str, asyncio.Task[None]] = {}  # by name of a process
        self._adapter: asyncio.Task[None] | None = None
        self.decided: deque[dict[str, Any]] = deque(maxlen=TOLD)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A process that joins may have what waits for its host, be it sent there by address."""
        if self._adapter is None or self._adapter.done():
            self._adapter = asyncio.create_task(self._adapt(), name=self.name)
        ws = scheduler.workers[worker]
        siblings = [it for it in self.processes(worker_of(str(ws.name))).values() if it is not ws]
        addresses = {it.address for it in siblings}
        for sibling in siblings:
            for ts in sibling.processing:
                if ts.worker_restrictions and addresses & ts.worker_restrictions:
                    ts.worker_restrictions.add(worker)

    async def close(self) -> None:
        tasks = [*([self._adapter] if self._adapter else []), *self._leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def processes(self, host: str) -> dict[str, Any]:
        """Those of a host that are there, by their names."""
        return {str(ws.name): ws for ws in self._scheduler.workers.values() if worker_of(str(ws.name)) == host}

    def needs(self, host: str) -> list[Mapping[str, float]]:
        """Of the tasks that the host has, and of its part of those that Dask has sent nobody yet."""
        own = [ts for ws in self.processes(host).values() for ts in ws.processing]
        there = len({worker_of(str(ws.name)) for ws in self._scheduler.workers.values()})
        waiting = list(self._scheduler.queued)
        own += waiting[: math.ceil(len(waiting) / max(there, 1))]
        return [ts.resource_restrictions or {} for ts in own]

    def cordoned(self, host: str) -> bool:
        return self._cordons.holds(host)

    def tell(self, host: str, before: int, after: int, reason: str, *, dry_run: bool) -> None:
        told = {"at": time.time(), "name": host, "before": before, "after": after, "reason": reason}
        self.decided.append({**told, "dry_run": dry_run})
        _log.info("%s: %d processes instead of %d: %s%s", host, after, before, reason, " (dry run)" if dry_run else "")

    async def _adapt(self) -> None:
        while self._scheduler.workers:
            for name, host in self._hosts.items():
                try:
                    await self._adapt_one(name, host)
                except Exception:  # one that is half gone must not leave the others to themselves
                    _log.exception("the processes of %s can't be adapted", name)
            await asyncio.sleep(INTERVAL)

    async def _adapt_one(self, name: str, host: Host) -> None:
        there = self.processes(name)
        first = there.get(name)
        if first is None:
            return
        await host.adapt()
        plan = host.plan
        for process, ws in there.items():
            if process in plan and process in self._leaving:
                await self._keep(process, ws)
            elif process not in plan and process not in self._leaving:
                task = asyncio.create_task(self._leave(process), name=f"{self.name}:{process}")
                self._leaving[process] = task
                task.add_done_callback(partial(self._left, process))
        if plan - there.keys():
            async with asyncio.timeout(TIMEOUT):
                await getattr(self._scheduler.rpc(first.address), PROCESSES)(count=host.count)

    def _left(self, process: str, task: asyncio.Task[None]) -> None:
        del self._leaving[process]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s doesn't leave, which is tried again: %r", process, error)

    async def _keep(self, process: str, ws: Any) -> None:
        """It was to leave, and is needed after all."""
        task = self._leaving[process]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not self.cordoned(worker_of(process)):
            moving.release(self._scheduler, ws)

    async def _leave(self, process: str) -> None:
        """It begins nothing more; what it runs it ends, then its results are moved, and it closes."""
        begun = time.monotonic()
        while (ws := self.processes(worker_of(process)).get(process)) is not None:
            moving.hold(self._scheduler, ws)
            moving.move_tasks(self._scheduler, ws)
            if not ws.processing or (time.monotonic() - begun > HEARD and not self._busy(ws)):
                break
            await asyncio.sleep(SWEEP)
        if ws is not None:
            await self._scheduler.retire_workers(workers=[ws.address], close_workers=True, remove=True)

    def _busy(self, ws: Any) -> bool:
        """Whether it runs something, or will give it away."""
        running = ws.executing.keys() | ws.long_running
        return any(ts in running or moving.others(self._scheduler, ws, ts) for ts in ws.processing)
