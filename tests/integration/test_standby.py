"""A host sleeps until a replica has no room elsewhere, and again afterwards: a real engine and Dask worker, which a
command starts, and which the mark that the gateway has left ends, as systemd would let the host sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.cluster import membership
from cluster_ai.cluster.membership import Tls
from cluster_ai.gateway.models import autoscaler, standby
from cluster_ai.settings import ScaleSettings, StandbySettings, Upstream, WorkerSettings
from tests.integration.test_autoscaler import added, busy
from tests.rig import cluster as rig
from tests.rig.cluster import MODEL
from tests.rig.models import GB, Site, gateway, is_, until, upstream
from tests.rig.processes import PATIENCE, free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(rig.ollama() is None, reason="models are made by a real Ollama: `make ollama` builds it"),
]
IDLE = 5.0  # seconds: much more than the autoscaler needs to give work to a host that was woken for it


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SAMPLE", 0.2), ("EVERY", 0.4), ("SPAN", 1.0)):
        monkeypatch.setattr(autoscaler, name, seconds)
    monkeypatch.setattr(standby, "EVERY", 0.3)
    monkeypatch.setattr(membership, "TIMEOUT", PATIENCE)


@contextlib.contextmanager
def machine(folder: Path, keys: Path, told: WorkerSettings, power: Path) -> Iterator[None]:
    """It is on from when there is a file `power` until its Dask worker has left the mark."""
    mark, over = folder / "two" / layout.SLEEP_MARK, threading.Event()
    port = int(told.engine_url.rpartition(":")[2])

    def live() -> None:
        while not over.wait(0.1):
            if power.exists():
                with (
                    rig.ollama_engine(folder / "engine-two", model="another", port=port),
                    rig.dask_worker(folder / "two", keys, told),
                ):
                    while not mark.exists() and not over.wait(0.1):
                        pass
                mark.unlink(missing_ok=True)
                power.unlink()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def worker(site: Site) -> Any:
    return next(it for it in (await site.ask("GET", "/api/v1/cluster/status"))["workers"] if it["name"] == "two")


async def test_a_host_is_woken_for_a_replica_and_sleeps_after(tmp_path: Path) -> None:
    keys = rig.authority().credentials(tmp_path / "keys", "head", "head")
    scheduler, engine, power = f"tls://127.0.0.1:{(port := free_port())}", f"http://127.0.0.1:{free_port()}", "power"
    told = WorkerSettings("two", scheduler, engine, 1, GB, 0, (), None, standby=True)
    wake = (str(shutil.which("touch")), str(tmp_path / power))
    sleeper = Upstream("two", engine, (), 1, 0, ram_room=GB, standby=StandbySettings(None, wake, None, IDLE, False))
    tls = Tls(*(keys / it for it in (layout.CA_CERT, layout.CERT, layout.KEY)))
    scale = ScaleSettings(1, 2, 1, None, 1.0, None, 0.0, (), False)

    async def state(site: Site, wanted: str) -> bool:
        return bool((await worker(site))["state"] == wanted)

    async def in_dask(site: Site) -> bool:
        return bool((await worker(site))["dask"] == "present")

    with (
        rig.scheduler(tmp_path / "scheduler", keys, port),
        rig.ollama_engine(tmp_path / "one") as (one, _),
        machine(tmp_path, keys, told, tmp_path / power),
    ):
        workers = upstream("one", one, MODEL), sleeper
        async with gateway(tmp_path, *workers, scale=scale, scheduler=scheduler, tls=tls) as site:
            await until(lambda: state(site, "asleep"))
            await until(lambda: is_(site, "one", "loaded"))
            assert (await worker(site))["reason"] == "on standby, until it is needed"
            measured = (await (await site.client.get("/metrics")).text()).splitlines()
            assert 'worker_asleep{worker="two"} 1.0' in measured
            assert 'worker_up{worker="one"} 1.0' in measured
            assert not any(it.startswith('worker_up{worker="two"}') for it in measured)  # else it would be an alert
            asking = asyncio.create_task(busy(site))
            try:
                await until(lambda: added(site, "two"))
                await until(lambda: in_dask(site))  # which is how it is sent to sleep
            finally:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
            await until(lambda: state(site, "asleep"))
            said = (await site.ask("GET", "/api/v1/cluster/scaling"))["decisions"]
            power_decisions = [(it["before"], it["after"]) for it in said if it["kind"] == "power"]
            assert power_decisions == [(1, 0), (0, 1)]
        async with gateway(tmp_path, *workers, scale=scale, scheduler=scheduler, tls=tls) as site:
            await until(lambda: state(site, "asleep"))
