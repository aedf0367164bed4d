"""A task that Dask has, as the task manager sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from distributed import Client, Future

from cluster_ai.tasks import work
from cluster_ai.tasks.model import Task
from cluster_ai.tasks.progress import Progress

PATIENCE = 2.0  # seconds for a worker that is to stop it; one that hangs would keep others waiting


@dataclass(slots=True)
class Sent:
    task: Task
    future: Future
    places: frozenset[str]  # addresses that it may run at
    collector: asyncio.Task[None]
    progress: Progress | None = None

    async def abandon(self) -> None:
        """Dask forgets it; where it runs, it goes on."""
        self.collector.cancel()
        await asyncio.gather(self.collector, return_exceptions=True)
        with suppress(Exception):
            await self.future.cancel()

    async def stop(self, client: Client) -> None:
        """Abandon it, and end what runs of it, where that can be."""
        there: list[str] = []
        with suppress(Exception):  # a worker or scheduler that is away runs nothing
            async with asyncio.timeout(PATIENCE):
                there = [at for at, keys in (await client.processing()).items() if self.future.key in keys]
        await self.abandon()
        if there:
            with suppress(Exception):
                async with asyncio.timeout(PATIENCE):
                    await client.run(work.stop, self.task.id, workers=there, on_error="ignore")
