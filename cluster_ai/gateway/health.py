"""Checks every worker, all the time, so that a request never has to find out by waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import aiohttp

from cluster_ai.engine.client import EngineClient, EngineError
from cluster_ai.gateway.failover.watch import StallWatch
from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.log import Log

INTERVAL = 2.0
SLOWEST = 8.0
TIMEOUT = 4.0


def pause(failures: int) -> float:
    """Seconds until the next check: quick at first after a failure, then rarer."""
    return INTERVAL if failures == 0 else min(SLOWEST, 2.0 ** (failures - 1))


class HealthWatch:
    """One task a worker, and one over all that streams; `async with` starts and ends them."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, log: Log) -> None:
        self._fleet, self._session, self._log = fleet, session, log
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looked: dict[str, asyncio.Event] = {}
        self._stalls: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HealthWatch:
        for worker in self._fleet.workers.values():
            self.add(worker)
        stalls = StallWatch(self._fleet, self._log)
        self._stalls = asyncio.create_task(stalls.run(), name="stall-watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks.values(), *([self._stalls] if self._stalls else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, worker: Worker) -> None:
        """Begins to check it."""
        self._looked[worker.name] = asyncio.Event()
        self._tasks[worker.name] = asyncio.create_task(self._watch(worker), name=f"health:{worker.name}")

    async def remove(self, worker: Worker) -> None:
        task = self._tasks.pop(worker.name)
        del self._looked[worker.name]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def looked(self, limit: float) -> None:
        """Until every worker was looked at once, or the limit has passed: a request before that finds none active."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                for looked in list(self._looked.values()):
                    await looked.wait()

    async def _watch(self, worker: Worker) -> None:
        client = EngineClient(self._session, worker.upstream.url, timeout=TIMEOUT)
        told = (worker.state, "")
        while True:
            worker.suspect.clear()
            try:
                self._fleet.answered(worker, await client.state())
            except EngineError as e:
                self._fleet.failed(worker, e.reason, time.monotonic(), certain=e.alive)
                if not e.alive and worker.health.answered is False:
                    _abort_silent(worker)
            except Exception as e:  # a fault of ours in reading an answer must not end the checks
                self._fleet.failed(worker, f"its answer can't be read: {e!r}", time.monotonic(), certain=True)
            self._looked[worker.name].set()
            now = (worker.state, worker.reason if worker.state is State.ACTIVE else worker.kept_out)
            if now != told:
                told = now
                self._log.write("worker", worker=worker.name, state=worker.state.value, reason=worker.reason)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause(worker.health.failures) * random.uniform(0.9, 1.1)):  # noqa: S311
                    await worker.suspect.wait()
            if worker.health.failures:
                await asyncio.sleep(0.2)  # a burst of failing requests must not become a burst of checks


def _abort_silent(worker: Worker) -> None:
    """A host that vanished leaves connections that never end: give up those that brought nothing since then."""
    since = worker.health.failing_since
    for flight in list(worker.flights):
        if since is not None and flight.last_byte < since:
            flight.abort(worker.health.reason)
