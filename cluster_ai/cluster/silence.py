"""In the Dask scheduler: workers that haven't been heard of for some seconds get nothing new, until they are.

A host that hangs keeps its connections, since its kernel answers on. What ends are its heartbeats: one each half
second, every two seconds in clusters of 200. Dask removes a worker after worker-ttl without any, and what it had begins
again elsewhere. So that has to be longer than a host can be just busy; this needn't be, for it takes nothing away.

Time counts only while the scheduler itself runs: one that hung has not heard of anybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.metrics import time as now
from distributed.scheduler import heartbeat_interval

from cluster_ai.cluster.cordons import name_of

_log = logging.getLogger(__name__)

SWEEP = 1.0  # seconds
SILENT = 8  # sweeps in a row without a heartbeat
LATE = 2.0  # seconds, but no less than BEATS of its intervals
BEATS = 3


def late(dask_scheduler: Any) -> list[str]:
    """Called by the scheduler: addresses of which nothing was heard when it was due, which may mean nothing yet."""
    allowed = max(LATE, BEATS * heartbeat_interval(len(dask_scheduler.workers)))
    return [address for address, ws in dask_scheduler.workers.items() if now() - ws.last_seen > allowed]


class Silence(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    name = "cluster-ai-silence"

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._heard: dict[str, tuple[float, int]] = {}  # address -> its last heartbeat, and sweeps since then
        self._held: set[str] = set()  # addresses that are paused here, of which the workers know nothing
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, scheduler: Any) -> None:
        self._sweeper = asyncio.create_task(self._sweeping(), name="cluster-ai-silence")

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def silent(self) -> list[str]:
        """Names of workers; where several processes have one name, all of them are."""
        found: dict[str, bool] = {}
        for address, ws in self._scheduler.workers.items():
            name = name_of(ws)
            found[name] = found.get(name, True) and self._silent(address)
        return sorted(name for name, is_silent in found.items() if is_silent)

    def sweep(self) -> None:
        """Once a second."""
        before, workers = self._heard, dict(self._scheduler.workers)
        self._heard = {
            address: (ws.last_seen, before[address][1] + 1 if before.get(address, (None,))[0] == ws.last_seen else 0)
            for address, ws in workers.items()
        }
        self._held &= workers.keys()
        for address, ws in workers.items():
            if self._silent(address):
                if ws.status is Status.running:
                    _log.warning("nothing is heard of %s: it gets no tasks", name_of(ws))
                    self._held.add(address)
                    self._set(ws, Status.paused)
            elif address in self._held:
                self._held.remove(address)
                if ws.status is Status.paused:  # else it was cordoned meanwhile
                    _log.warning("%s is heard of again", name_of(ws))
                    self._set(ws, Status.running)

    def _silent(self, address: str) -> bool:
        return self._heard.get(address, (0.0, 0))[1] >= SILENT

    def _set(self, ws: Any, status: Status) -> None:
        self._scheduler.handle_worker_status_change(status, ws, f"cluster-ai-silence-{time.time()}")

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                self.sweep()
            except Exception:  # a worker that is half gone must not leave the others to themselves
                _log.exception("a sweep over silent workers failed")
