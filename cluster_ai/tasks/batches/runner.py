"""Leads each batch through its stages. Whatever is cut off is done again from the stage that the database tells."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cluster_ai.tasks.batches import lines
from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.files import Files
from cluster_ai.tasks.batches.store import ALIVE, Batch, Stage, Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.model import Spec, State

TICK = 0.5  # seconds
CHUNK, PAGE = 500, 100  # lines that are added, and written, at a time
_ENDS = {Stage.CANCELLING: Stage.CANCELLED, Stage.FINALIZING: Stage.COMPLETED}


class Runner:
    """`run` until cancelled."""

    def __init__(self, journal: Journal, store: Store, files: Files, dispatcher: Dispatcher) -> None:
        self._journal, self._store, self._files, self._dispatcher = journal, store, files, dispatcher
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is a new one, or one is to be cancelled."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            alive: list[Batch] = await self._dispatcher.journal(self._store.alive)
            for batch in alive:
                try:
                    await self._step(batch)
                except OSError as e:  # a full disk: it is tried again
                    logging.getLogger("cluster_ai.tasks").warning("batch %s: %s", batch.id, e)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK if alive else None):
                    await self._wake.wait()

    async def _step(self, batch: Batch) -> None:
        if batch.stage is Stage.VALIDATING:
            await self._validate(batch)
        elif batch.stage in (Stage.CANCELLING, Stage.FINALIZING):
            await self._end(batch, _ENDS[batch.stage])
        elif self._journal.now > batch.expires:
            await self._end(batch, Stage.EXPIRED)
        else:
            counts = await self._dispatcher.journal(self._store.counts, batch.id)
            if not counts[State.QUEUED] and not counts[State.SENT]:
                await self._dispatcher.journal(self._store.turn, batch.id, Stage.FINALIZING, of=(Stage.IN_PROGRESS,))
                self.wake()

    async def _validate(self, batch: Batch) -> None:
        file: File | None = await self._dispatcher.journal(self._store.file, batch.input)
        if file is None:
            await self._fail(batch, [lines.Wrong("file_not_found", "the input file was deleted")])
            return
        path = self._files.path(file)
        total, wrong = await asyncio.to_thread(_checked, path, batch)
        if wrong:
            await self._fail(batch, wrong)
            return
        specs = _specs(path, batch)
        while part := list(islice(specs, CHUNK)):
            await self._dispatcher.journal(self._journal.add_lines, batch.user, batch.id, part)
            self._dispatcher.wake()
            current: Batch | None = await self._dispatcher.journal(self._store.batch, batch.id)
            if current is None or current.stage is not Stage.VALIDATING:
                break  # it is to be cancelled
        await self._dispatcher.journal(
            self._store.turn, batch.id, Stage.IN_PROGRESS, of=(Stage.VALIDATING,), total=total
        )
        self.wake()

    async def _fail(self, batch: Batch, wrong: list[lines.Wrong]) -> None:
        told = [it.public() for it in wrong]
        await self._dispatcher.journal(self._store.turn, batch.id, Stage.FAILED, of=(Stage.VALIDATING,), wrong=told)

    async def _end(self, batch: Batch, stage: Stage) -> None:
        """Stops what is left of it, and writes what came out."""
        await self._dispatcher.journal(self._store.cancel_waiting, batch.id)
        for task_id in await self._dispatcher.journal(self._store.sent, batch.id):
            await self._dispatcher.cancel(task_id)
        with self._files.writing() as output, self._files.writing() as errors:
            done = failed = 0
            after = 0
            while page := await self._dispatcher.journal(self._journal.of_batch, batch.id, after, PAGE):
                after = page[-1][0]
                for _, task in page:
                    if task.state is State.DONE:
                        output.write(lines.encode(lines.answer(task)))
                        done += 1
                        continue
                    failed += task.state is State.FAILED
                    told = lines.fault(task, expired=stage is Stage.EXPIRED)
                    if told is not None:
                        errors.write(lines.encode(told))
            now = self._journal.now
            name = f"{batch.id}_{{}}.jsonl"
            files = [
                await asyncio.to_thread(it.finish, batch.user, name.format(kind), "batch_output", now)
                if it.size
                else None
                for it, kind in ((output, "output"), (errors, "error"))
            ]
            await self._dispatcher.journal(
                self._store.turn,
                batch.id,
                stage,
                of=ALIVE,
                counts=(done, failed),
                output=files[0],
                errors=files[1],
            )

    async def tidy(self) -> None:
        """What nobody keeps any longer."""
        for file in await self._dispatcher.journal(self._store.over):
            await self._dispatcher.journal(self._store.forget_file, file.id)
            self._files.forget(file)
        await self._dispatcher.journal(self._store.forget)


def _checked(path: Path, batch: Batch) -> tuple[int, list[lines.Wrong]]:
    with path.open("rb") as file:
        return lines.check(file, batch.endpoint, batch.models)


def _specs(path: Path, batch: Batch) -> Iterator[tuple[int, Spec]]:
    with path.open("rb") as file:
        for number, line in lines.filled(file):
            yield number, lines.request(line, batch.endpoint)[1]
