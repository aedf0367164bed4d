"""In the first Dask worker process of a host: begins others beside it when the scheduler asks (adaptive.py).

They are Dask's own command, with a nanny each, in the unit of the first, so that what bounds the unit bounds them all.
They end when the scheduler retires them, and with the first, whatever became of it: as a preload of their nannies, this
module has the kernel see to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster_ai.settings import Processes, WorkerSettings, process_name

_PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE = 10.0  # seconds that they have to end in


class Companions:
    def __init__(self, told: WorkerSettings, processes: Processes, folder: Path, preloads: Sequence[str]) -> None:
        """folder: Dask's local directory. preloads: modules that each worker process loads beside the plugin."""
        self._told, self._processes, self._folder, self._preloads = told, processes, folder, preloads
        self._begun: dict[int, Process] = {}  # by number; the first has 1

    async def ensure(self, count: int) -> None:
        """Begins those up to this number that don't run. Called by Dask, from the scheduler."""
        for number in range(2, min(count, self._processes.most) + 1):
            running = self._begun.get(number)
            if running is None or running.returncode is not None:
                self._begun[number] = await asyncio.create_subprocess_exec(*self._command(number))

    async def close(self) -> None:
        running = [it for it in self._begun.values() if it.returncode is None]
        for it in running:
            it.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await asyncio.gather(*(it.wait() for it in running))

    def _command(self, number: int) -> list[str]:
        told, share = self._told, self._processes
        name, plugin = process_name(told.name, number), "cluster_ai.cluster.worker_plugin"
        command = [sys.executable, "-m", "distributed.cli.dask_worker", told.scheduler, "--name", name]
        command += ["--nthreads", str(share.cpu), "--memory-limit", str(share.memory)]
        command += ["--resources", f"MEMORY={share.memory},CPU={share.cpu}", "--local-directory", str(self._folder)]
        command += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--preload", plugin]
        for module in self._preloads:
            command += ["--preload", module, "--preload-nanny", module]
        command += ["--preload-nanny", __name__]
        if share.port is None:
            return [*command, "--host", share.contact]
        port = share.port + number - 1
        command += ["--listen-address", f"{share.listen}:{port}", "--contact-address", f"{share.contact}:{port}"]
        return [*command, "--nanny-port", share.nanny_ports]


def dask_setup(nanny: Any) -> None:
    """Called by Dask in each nanny: it ends with who began it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died a moment before
        os.kill(os.getpid(), signal.SIGTERM)
