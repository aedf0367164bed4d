"""Which workers get nothing new, and why: kept over the gateway's restarts, and told to Dask."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from cluster_ai.cluster.membership import NOT_ASKED, Left, Membership, View
from cluster_ai.errors import UnavailableError
from cluster_ai.gateway.fleet import Cordon, Fleet, Worker
from cluster_ai.gateway.log import Log

FILE = "cordons.json"
FORMAT = 1


class CordonFile:
    """directory None: kept in memory only."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE if directory is not None else None

    def read(self, known: Collection[str]) -> dict[str, Cordon]:
        """Of the workers that are known. Raises ValueError for a file that isn't ours, OSError."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            said = json.loads(self._path.read_text())
            if said["format"] != FORMAT:
                raise ValueError(f"format {said['format']!r}")
            return {name: Cordon(**it) for name, it in said["workers"].items() if name in known}
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"not a list of cordons: {e!r}") from e

    def write(self, cordons: Mapping[str, Cordon]) -> None:
        """All of it or nothing, whenever the power goes."""
        if self._path is None:
            return
        text = json.dumps({"format": FORMAT, "workers": {name: asdict(it) for name, it in cordons.items()}}, indent=2)
        beside = self._path.with_name(f".{FILE}.{os.getpid()}")
        with beside.open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


class Cordons:
    """`async with` restores what was, and keeps Dask told.

    The scheduler is told by each change, and when it is another process than the one that was told. A second gateway,
    which for some minutes only finishes its streams, says nothing more to it.
    """

    def __init__(
        self,
        fleet: Fleet,
        membership: Membership,
        file: CordonFile,
        log: Log,
        *,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._fleet, self._membership, self._file, self._log, self._ending = fleet, membership, file, log, ending
        self._lock = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()
        self._told: frozenset[str] | None = None  # None: this scheduler was told nothing yet
        self.untold = NOT_ASKED  # why Dask doesn't know; empty when it does

    async def __aenter__(self) -> Cordons:
        try:
            found = self._file.read(self._fleet.workers)
        except (OSError, ValueError) as e:
            self._log.write("cordons", error=f"what was cordoned is forgotten: {e}")
            found = {}
        for name, cordon in found.items():
            self._fleet.cordon(self._fleet.workers[name], cordon)
            self._log.write("cordon", worker=name, reason=str(cordon), restored=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def cordon(self, worker: Worker, reason: str, *, drain: bool) -> None:
        """Whoever asks last gives the reason. A drain waits until Dask knows; a cordon takes nothing back from it."""
        before = worker.cordon
        since = before.since if before else time.time()
        drained = drain or bool(before and before.drained)
        self._change(worker, Cordon(reason, since, drained))
        if drain:
            await self._tell()
        else:
            self._tell_soon()

    async def resume(self, worker: Worker) -> None:
        self._change(worker, None)
        await self._tell()

    def seen(self, view: View | None, reason: str) -> None:
        """What membership says of the scheduler."""
        if view is None:
            self._told, self.untold = None, reason
            return
        self._fleet.leaving(name for name, m in view.members.items() if m.status == "closing_gracefully")
        if self._told is None and not self._telling:
            if self._names() or view.cordoned:
                self._tell_soon()
            else:
                self._told, self.untold = frozenset(), ""

    def left(self, worker: Worker) -> Left | None:
        """What a cordoned worker has in Dask; None where that isn't known."""
        view = self._membership.view
        return view.cordoned.get(worker.name) if view is not None and not self.untold else None

    def _names(self) -> dict[str, bool]:
        return {w.name: w.cordon.drained for w in self._fleet.workers.values() if w.cordon}

    def _change(self, worker: Worker, cordon: Cordon | None) -> None:
        if cordon == worker.cordon:
            return
        self._fleet.cordon(worker, cordon)
        self._log.write("cordon", worker=worker.name, reason=str(cordon or ""))
        try:
            self._file.write({w.name: w.cordon for w in self._fleet.workers.values() if w.cordon})
        except OSError as e:
            self._log.write("cordons", error=f"a restart of the gateway would forget this: {e}")

    def _tell_soon(self) -> None:
        task = asyncio.create_task(self._tell(), name="cordons")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self) -> None:
        async with self._lock:
            if self._ending():
                return
            names = self._names()
            if not self._membership.connected and self._membership.reason != NOT_ASKED:
                self._told, self.untold = None, self._membership.reason
                return
            try:
                await self._membership.cordon(names)
            except UnavailableError as e:
                if self.untold != e.what:
                    self._log.write("cordons", error=f"Dask isn't told: {e.what}")
                self._told, self.untold = None, e.what  # the next view tries again
                return
            again = (self._told or frozenset()) - names.keys()
            self._fleet.leaving([w.name for w in self._fleet.workers.values() if w.leaving and w.name not in again])
            self._told, self.untold = frozenset(names), ""
