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
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from cluster_ai import layout, settings
from cluster_ai.cluster import cgroups, gpu, report
from cluster_ai.cluster.companions import Companions
from cluster_ai.cluster.limits import Limits, detect
from cluster_ai.cluster.means import Cards, Means
from cluster_ai.engine.client import EngineClient, EngineError, LoadedModel

_log = logging.getLogger(__name__)
SETTINGS = "CLUSTER_AI_WORKER_SETTINGS"
DELEGATED = "CLUSTER_AI_DELEGATED"  # 1: the worker's unit delegates its cgroup
INTERVAL = 2.0
DRIVER = 10.0  # seconds in which it tells its cards when the worker starts
ENGINE_TIMEOUT = 2.0


class Sampler:
    """Keeps the latest report of this host."""

    def __init__(
        self,
        told: settings.WorkerSettings,
        directory: Path,
        limits: Limits,
        isolation: str,
        gpus: tuple[report.Gpu, ...],
        on_cards: Callable[[tuple[report.Gpu, ...]], Awaitable[None]],
    ) -> None:
        """gpus: those that were there at the start. on_cards: is told of those that are, when the driver says it."""
        self._told, self._directory, self._limits, self._isolation = told, directory, limits, isolation
        self._on_cards = on_cards
        self._gpus = gpus
        self._asking_cards: asyncio.Task[tuple[report.Gpu, ...] | None] | None = None
        psutil.cpu_percent()  # the first call only starts the interval
        self.latest: dict[str, Any] = report.dump(self._report(None, "", "not asked yet", ()))

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession() as session:
            engine = EngineClient(session, self._told.engine_url, timeout=ENGINE_TIMEOUT)
            while True:
                try:
                    version, error, loaded = await _ask(engine)
                    await self._ask_cards()
                    self.latest = report.dump(self._report(psutil.cpu_percent() / 100, version, error, loaded))
                except Exception:  # what can't be read now must not end the reports
                    _log.exception("the host can't be looked at")
                await asyncio.sleep(INTERVAL)

    async def _ask_cards(self) -> None:
        """A driver that hangs keeps one thread, and the last answer."""
        if self._asking_cards is None:
            self._asking_cards = asyncio.create_task(asyncio.to_thread(gpu.cards), name="cards")
        done, _ = await asyncio.wait({self._asking_cards}, timeout=INTERVAL)
        if not done:
            return
        asked, self._asking_cards = self._asking_cards, None
        found = asked.result()
        self._gpus = found or ()
        if found is not None:
            await self._on_cards(found)

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
            isolation=self._isolation,
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


async def first_cards() -> tuple[report.Gpu, ...]:
    """None of a driver that isn't there, or doesn't answer in time."""
    try:
        async with asyncio.timeout(DRIVER):
            return await asyncio.to_thread(gpu.cards) or ()
    except TimeoutError:
        _log.warning("the cards' driver doesn't answer")
        return ()


async def fit(worker: Any, cards: Cards, declared: int, found: tuple[report.Gpu, ...]) -> None:
    """Dask gives out the cards that cluster.yaml gives the worker and the driver shows, as they come and go."""
    there = usable(declared, found)
    if there == cards.all:
        return
    _log.warning("the worker has %s of the %s cards that cluster.yaml gives it", len(there), declared)
    try:
        await worker.set_resources(GPU=len(there))
    except Exception as e:  # Dask's comms raise many kinds; the next reading tries again
        _log.warning("the scheduler can't be told of cards: %s", e)
    else:
        cards.become(there)


def usable(declared: int, found: tuple[report.Gpu, ...]) -> tuple[str, ...]:
    return tuple(it.uuid for it in found if it.uuid is not None)[:declared]


def isolated() -> tuple[cgroups.Groups | None, str]:
    """Where tasks get cgroups of their own, or why they don't."""
    try:
        return cgroups.take(delegated=os.environ.get(DELEGATED) == "1"), ""
    except cgroups.NoDelegationError as e:
        return None, str(e)


async def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's process, before it registers."""
    told = settings.load(settings.WorkerSettings, Path(os.environ[SETTINGS]))
    groups, why = isolated()
    limits, gpus = detect(), await first_cards()
    declared = int(worker.state.total_resources.get("GPU", 0))  # none, but in a host's first process
    cards = Cards(usable(declared, gpus))
    for name, most in (("CPU", max(int(limits.cpus), 1)), ("MEMORY", limits.memory), ("GPU", len(cards.all))):
        bound(worker.state, name, most)
    if told.standby and str(worker.name) == told.name:
        worker.handlers[report.SLEEP] = sleep
    if told.processes is not None and str(worker.name) == told.name:
        folder = Path(worker.local_directory).parents[1]  # Dask makes two of its own in the one that it was given
        preloads = [it.name for it in worker.preloads if it.name != __name__]
        worker.cluster_ai_companions = companions = Companions(told, told.processes, folder, preloads)
        worker.handlers[report.PROCESSES] = companions.ensure
    worker.cluster_ai_means = Means(groups, cards)
    on_cards = partial(fit, worker, cards, declared)
    sampler = Sampler(told, Path(worker.local_directory), limits, why, gpus, on_cards)
    worker.metrics[report.METRIC] = lambda _: sampler.latest
    worker.cluster_ai_sampler = asyncio.create_task(sampler.run(), name="cluster-ai-sampler")


async def dask_teardown(worker: Any) -> None:
    if (companions := getattr(worker, "cluster_ai_companions", None)) is not None:
        await companions.close()
    worker.cluster_ai_sampler.cancel()
    await asyncio.gather(worker.cluster_ai_sampler, return_exceptions=True)
