"""Tells the task manager how many of each worker's slots people need, so that tasks leave those free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.tasks import TaskManager

PERIOD = 1.0  # seconds
KEPT = 15  # periods in which a slot stays theirs: who talks will say something more


class Needs:
    """The most that each worker had at once lately. Pure."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}  # worker -> requests, and periods that they still count

    def look(self, in_flight: Mapping[str, int]) -> dict[str, int]:
        """Of those that had any. Called once in a period."""
        for worker, now in in_flight.items():
            most, left = self._seen.get(worker, (0, 0))
            if now and now >= most:
                self._seen[worker] = now, KEPT
            elif left > 1:
                self._seen[worker] = most, left - 1
            elif now:
                self._seen[worker] = now, KEPT
            else:
                self._seen.pop(worker, None)
        return {worker: most for worker, (most, _) in self._seen.items()}


async def tell(fleet: Fleet, tasks: TaskManager) -> None:
    """Until cancelled. Where nobody asked anything there is nothing to tell."""
    needs = Needs()
    while True:
        found = needs.look({worker.name: worker.in_flight for worker in fleet.workers.values()})
        if found:
            with contextlib.suppress(Refusal):  # it is away, and nothing runs that should give way
                await tasks.ask("POST", "/people", {}, found)
        await asyncio.sleep(PERIOD)
