"""What a cordon does in a real Dask over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client, get_worker
from distributed.security import Security

from cluster_ai import layout, settings
from cluster_ai.cluster import membership
from cluster_ai.cluster.membership import Left, Membership, Tls
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, Process, free_port

pytestmark = pytest.mark.integration

EMPTY = Left(0, 0)


def wait_for(path: Path, value: str) -> str:
    """A task that ends when a file is there."""
    path.with_suffix(".began").touch()
    while not path.exists():
        time.sleep(0.05)
    return value


def noted(path: Path, value: str) -> str:
    """A task that leaves a line each time it runs."""
    with path.open("a") as file:
        file.write("ran\n")
    return value


def where(_: int) -> str:
    return str(get_worker().name)


@dataclass
class Site:
    folder: Path
    keys: Path
    address: str

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[Process]:
        told = settings.WorkerSettings(name, self.address, "http://127.0.0.1:9", 1, 2 * 1024**3, 0, (), None)
        with rig.dask_worker(self.folder / name, self.keys, told, slots=0) as process:
            yield process

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        security = Security(
            tls_ca_file=str(self.keys / layout.CA_CERT),
            tls_client_cert=str(self.keys / layout.CERT),
            tls_client_key=str(self.keys / layout.KEY),
            tls_min_version=ssl.TLSVersion.TLSv1_3,
            require_encryption=True,
        )
        async with Client(self.address, security=security, asynchronous=True) as client:
            yield client

    def membership(self) -> Membership:
        return Membership(
            self.address, Tls(self.keys / layout.CA_CERT, self.keys / layout.CERT, self.keys / layout.KEY)
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(membership, "TIMEOUT", PATIENCE)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING_INTERVAL", "1h")  # what moves is moved by the cordon
    keys = rig.authority().credentials(tmp_path / "keys", "head", "head")
    port = free_port()
    with rig.scheduler(tmp_path / "scheduler", keys, port):
        yield Site(tmp_path, keys, f"tls://127.0.0.1:{port}")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.05)


def status(membership: Membership, name: str) -> str:
    view = membership.view
    return view.members[name].status if view and name in view.members else ""


def left(membership: Membership, name: str) -> Left | None:
    return membership.view.cordoned.get(name) if membership.view else None


async def test_a_drained_worker_ends_what_runs_gives_the_rest_away_and_is_empty(site: Site) -> None:
    go, runs = site.folder / "go", site.folder / "runs"
    with site.worker("w1") as first:
        async with site.membership() as membership, site.client() as client:
            await until(lambda: status(membership, "w1") == "running")
            value = client.submit(noted, runs, "precious", workers=["w1"], allow_other_workers=True)
            assert await value == "precious"
            running = client.submit(wait_for, go, "done", workers=["w1"], allow_other_workers=True)
            await until(go.with_suffix(".began").exists)
            queued = [client.submit(where, i, workers=["w1"], allow_other_workers=True) for i in range(5)]
            bound = client.submit(where, 99, workers=["w1"])
            with site.worker("w2"):
                await until(lambda: status(membership, "w2") == "running")
                told = await membership.cordon({"w1": True})
                assert told["w1"].tasks
                assert set(await client.gather(queued)) == {"w2"}
                assert set(await client.gather(client.map(where, range(10, 20)))) == {"w2"}
                assert not bound.done()
                await until(lambda: left(membership, "w1") == Left(1, 0))  # what still runs; bound ones only wait
                go.touch()
                assert await running == "done"
                await until(lambda: left(membership, "w1") == EMPTY)
                assert not bound.done()
                await bound.cancel()  # Dask binds it to the address, which is another one after this worker's restart
                first.stop(kill=True)
                await until(lambda: status(membership, "w1") == "")
                assert await client.gather([value, running]) == ["precious", "done"]
                assert runs.read_text() == "ran\n"  # copied in time, not made anew

                with site.worker("w1"):  # it was updated, say, and is still drained
                    await until(lambda: status(membership, "w1") == "closing_gracefully")
                    assert set(await client.gather(client.map(where, range(20, 30)))) == {"w2"}
                    assert await membership.cordon({}) == {}
                    await until(lambda: status(membership, "w1") == "running")
                    assert await client.submit(where, 30, workers=["w1"]) == "w1"


async def test_a_cordoned_worker_keeps_its_results_and_takes_tasks_again(site: Site) -> None:
    with site.worker("w1"), site.worker("w2"):
        async with site.membership() as membership, site.client() as client:
            await until(lambda: status(membership, "w1") == status(membership, "w2") == "running")
            value = client.submit(noted, site.folder / "runs", "here", workers=["w1"], allow_other_workers=True)
            await value
            await membership.cordon({"w1": False})
            assert set(await client.gather(client.map(where, range(10)))) == {"w2"}
            await until(lambda: left(membership, "w1") == EMPTY)  # results don't count
            held = await client.who_has([value])
            assert len(held[value.key]) == 1
            await membership.cordon({})
            assert await client.submit(where, 30, workers=["w1"]) == "w1"


async def test_the_only_worker_is_empty_though_nobody_can_take_its_results(site: Site) -> None:
    with site.worker("w1"):
        async with site.membership() as membership, site.client() as client:
            await until(lambda: status(membership, "w1") == "running")
            value = client.submit(where, 1)
            assert await value == "w1"
            await membership.cordon({"w1": True})
            waiting = client.submit(where, 2)
            await until(lambda: left(membership, "w1") == EMPTY)
            assert not waiting.done()
            await membership.cordon({})
            assert await waiting == "w1"
