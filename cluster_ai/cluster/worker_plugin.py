"""Loaded into each Dask worker by `--preload cluster_ai.cluster.worker_plugin`: host, cards and engine in heartbeats.

The heartbeat only picks up the latest report; a task beside it makes one every two seconds, so that a slow engine or
driver never delays a heartbeat. CLUSTER_AI_WORKER_SETTINGS is the path of the worker's settings.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from cluster_ai import layout, settings
from cluster_ai.cluster import gpu, report
from cluster_ai.cluster.companions import Companions
from cluster_ai.cluster.limits import Limits, detect
from cluster_ai.engine.client import EngineClient, EngineError, LoadedModel

_log = logging.getLogger(__name__)
SETTINGS = "CLUSTER_AI_WORKER_SETTINGS"
INTERVAL = 2.0
ENGINE_TIMEOUT = 2.0


class Sampler:
    """Keeps the latest report of this host."""

    def __init__(
        self,
        told: settings.WorkerSettings,
        directory: Path,
        limits: Limits,
        cards: Callable[[], tuple[report.Gpu, ...]] = gpu.cards,
    ) -> None:
        self._told, self._directory, self._limits, self._cards = told, directory, limits, cards
        self._gpus: tuple[report.Gpu, ...] = ()
        self._asking_cards: asyncio.Task[tuple[report.Gpu, ...]] | None = None
        psutil.cpu_percent()  # the first call only starts the interval
        self.latest: dict[str, Any] = report.dump(self._report(None, "", "not asked yet", ()))

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession() as session:
            engine = EngineClient(session, self._told.engine_url, timeout=ENGINE_TIMEOUT)
            while True:
                version, error, loaded = await _ask(engine)
                await self._ask_cards()
                self.latest = report.dump(self._report(psutil.cpu_percent() / 100, version, error, loaded))
                await asyncio.sleep(INTERVAL)

    async def _ask_cards(self) -> None:
        """A driver that hangs keeps one thread, and the last answer."""
        if self._asking_cards is None:
            self._asking_cards = asyncio.create_task(asyncio.to_thread(self._cards), name="cards")
        done, _ = await asyncio.wait({self._asking_cards}, timeout=INTERVAL)
        if done:
            self._gpus, self._asking_cards = self._asking_cards.result(), None

    def _report(self, cpu: float | None, version: str, error: str, loaded: tuple[LoadedModel, ...]) -> report.Report:
        memory, disk = psutil.virtual_memory(), shutil.disk_usage(self._directory)
        return report.Report(
            worker=self._told.name,
            at=time.time(),
            cpu=cpu,
            cores=psutil.cpu_count() or 1,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            disk_free=disk.free,
            gpus=self._gpus,
            engine_version=version,
            engine_error=error,
            loaded=tuple(report.Loaded(m.name, m.size, m.size_vram) for m in loaded),
            cpus=self._limits.cpus,
            memory_limit=self._limits.memory,
            disk_total=disk.total,
            networks=networks(),
            release=release(),
        )


async def _ask(engine: EngineClient) -> tuple[str, str, tuple[LoadedModel, ...]]:
    try:
        version, loaded = await engine.loaded()
    except EngineError as e:
        return "", e.reason, ()
    return version, "", loaded


def release(current: Path = Path(layout.CURRENT)) -> str | None:
    """The digest of what the host runs now; a process of which nothing changed was started from an older one."""
    try:
        return current.readlink().name
    except OSError:
        return None


def networks() -> tuple[report.Network, ...]:
    """Those that are up, and by whose addresses others reach this host."""
    addresses, stats = psutil.net_if_addrs(), psutil.net_if_stats()
    return tuple(
        report.Network(name, found, stats[name].speed or None)
        for name in sorted(addresses.keys() & stats.keys())
        if stats[name].isup and (found := tuple(it.address for it in addresses[name] if _reaches(it)))
    )


def _reaches(it: Any) -> bool:
    if it.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    address = ipaddress.ip_address(it.address.partition("%")[0])
    return not (address.is_loopback or address.is_link_local)


def bound(state: Any, name: str, most: float) -> None:
    """Of a Dask resource the worker has no more than its host lets it: tasks then wait, or go to another worker."""
    declared = state.total_resources.get(name, 0)
    if declared > most:
        _log.warning("%s is %s in cluster.yaml, but the host lets this worker have %s", name, declared, most)
        state.total_resources[name] = state.available_resources[name] = most


def sleep() -> bool:
    """Called by Dask, from the gateway. Only leaves a mark: a unit of systemd's looks for it and does what it says."""
    (Path(os.environ["STATE_DIRECTORY"]) / layout.SLEEP_MARK).touch()
    return True


async def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's process, before it registers."""
    told = settings.load(settings.WorkerSettings, Path(os.environ[SETTINGS]))
    limits = detect()
    for name, most in (("CPU", max(int(limits.cpus), 1)), ("MEMORY", limits.memory)):
        bound(worker.state, name, most)
    if told.standby and str(worker.name) == told.name:
        worker.handlers[report.SLEEP] = sleep
    if told.processes is not None and str(worker.name) == told.name:
        folder = Path(worker.local_directory).parents[1]  # Dask makes two of its own in the one that it was given
        preloads = [it.name for it in worker.preloads if it.name != __name__]
        worker.cluster_ai_companions = companions = Companions(told, told.processes, folder, preloads)
        worker.handlers[report.PROCESSES] = companions.ensure
    sampler = Sampler(told, Path(worker.local_directory), limits)
    worker.metrics[report.METRIC] = lambda _: sampler.latest
    worker.cluster_ai_sampler = asyncio.create_task(sampler.run(), name="cluster-ai-sampler")


async def dask_teardown(worker: Any) -> None:
    if (companions := getattr(worker, "cluster_ai_companions", None)) is not None:
        await companions.close()
    worker.cluster_ai_sampler.cancel()
    await asyncio.gather(worker.cluster_ai_sampler, return_exceptions=True)
