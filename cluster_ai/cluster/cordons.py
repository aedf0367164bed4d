"""In the Dask scheduler: keeps workers out of Dask's rotation while the gateway says so.

Dask can retire a worker, but that is meant for one that closes: it can't be undone, what the worker has queued waits
there for ever, and a worker that starts anew is in rotation again. So here a cordon belongs to a worker's name, and to
all processes that it has. What they have not begun is moved (moving.py); results that only they hold are copied by
Dask's retiring.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from cluster_ai.cluster import moving, report

_log = logging.getLogger(__name__)

SWEEP = 0.5  # seconds
HEARD = 2.0  # seconds after which a heartbeat surely tells of the time after the cordon


class Cordons(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    name = "cluster-ai-cordons"

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._names: dict[str, bool] = {}  # name -> whether its results are moved away too
        self._since: dict[str, float] = {}  # address of a worker that is held -> when
        self._sweeper: asyncio.Task[None] | None = None
        self._retiring: dict[str, asyncio.Task[Any]] = {}  # address ->

    def cordon(self, cordoned: Mapping[str, bool]) -> dict[str, dict[str, int]]:
        """Exactly these are cordoned from now on; true: their results are moved away too. Returns what `left` does."""
        self._names = {str(name): bool(drained) for name, drained in cordoned.items()}
        for ws in list(self._scheduler.workers.values()):
            if name_of(ws) not in self._names and ws.address in self._since:
                self._release(ws)
        self._sweep()
        if self._names and (self._sweeper is None or self._sweeper.done()):
            self._sweeper = asyncio.create_task(self._sweeping(), name="cluster-ai-cordons")
        return self.left()

    def holds(self, name: str) -> bool:
        return name in self._names

    def left(self) -> dict[str, dict[str, int]]:
        """Of each cordoned name: tasks that it has, and results that would be lost with it. Absent ones have none."""
        found = {name: {"tasks": 0, "results": 0} for name in self._names}
        for ws in self._scheduler.workers.values():
            if (name := name_of(ws)) in found:
                found[name]["tasks"] += len(self._busy(ws))
                found[name]["results"] += len(self._unique(ws)) if self._names[name] else 0
        return found

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Before the scheduler gives it tasks: one that was restarted stays cordoned."""
        ws = scheduler.workers[worker]
        if name_of(ws) in self._names:
            self._hold(ws)

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        self._since.pop(worker, None)

    async def close(self) -> None:
        tasks = [*([self._sweeper] if self._sweeper else []), *self._retiring.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sweeping(self) -> None:
        """Again and again: a worker may say that it runs, a task end and leave its result, another worker come."""
        while self._names:
            await asyncio.sleep(SWEEP)
            try:
                self._sweep()
            except Exception:  # a worker that is half gone must not leave the others to themselves
                _log.exception("a sweep over cordoned workers failed")

    def _sweep(self) -> None:
        for ws in list(self._scheduler.workers.values()):
            drained = self._names.get(name_of(ws))
            if drained is None:
                continue
            self._hold(ws)
            moving.move_tasks(self._scheduler, ws)
            if drained and ws.address not in self._retiring and self._unique(ws):
                self._retire(ws.address)

    def _hold(self, ws: Any) -> None:
        self._since.setdefault(ws.address, time.monotonic())
        moving.hold(self._scheduler, ws)

    def _release(self, ws: Any) -> None:
        del self._since[ws.address]
        if ws.address in self._retiring:
            self._retiring[ws.address].cancel()  # else its end could set the status back
        moving.release(self._scheduler, ws)

    def _busy(self, ws: Any) -> list[Any]:
        """Tasks that it runs, or will give away. Not those that wait there because no other worker may run them."""
        since = self._since.get(ws.address)
        heard = since is not None and time.monotonic() - since > HEARD
        return [ts for ts in ws.processing if not heard or ts in ws.executing or moving.others(self._scheduler, ws, ts)]

    def _unique(self, ws: Any) -> list[Any]:
        """Results that only it holds, as far as another worker could take them."""
        if not any(other is not ws for other in self._scheduler.running):
            return []
        return [ts for ts in ws.has_what if not ts.actor and not any(other is not ws for other in ts.who_has or ())]

    def _retire(self, address: str) -> None:
        async def retire() -> None:
            with contextlib.suppress(Exception):  # a worker that goes meanwhile; the next sweep looks anew
                await self._scheduler.retire_workers(workers=[address], close_workers=False, remove=False)

        task = asyncio.create_task(retire(), name=f"cluster-ai-retire:{address}")
        self._retiring[address] = task
        task.add_done_callback(lambda _: self._retiring.pop(address, None))


def name_of(ws: Any) -> str:
    own = report.parse(ws.metrics.get(report.METRIC))
    return own.worker if own else str(ws.name)
