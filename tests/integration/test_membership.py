"""The membership client and the two plugins against a real Dask over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client
from distributed.security import Security

from cluster_ai import layout, settings
from cluster_ai.cluster import membership as module
from cluster_ai.cluster.limits import detect
from cluster_ai.cluster.membership import Membership, TaskCounts, Tls, View
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.authority().credentials(tmp_path_factory.mktemp("keys"), "head", "head")


def _tls(keys: Path) -> Tls:
    return Tls(keys / layout.CA_CERT, keys / layout.CERT, keys / layout.KEY)


def _worker(scheduler: str, engine: str) -> settings.WorkerSettings:
    return settings.WorkerSettings("w1", scheduler, engine, 1, 2 * 1024**3, 0, (rig.MODEL,), None)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.05)


def _seen(membership: Membership) -> View:
    assert membership.view is not None
    return membership.view


async def test_a_workers_heartbeat_brings_host_and_engine_and_the_scheduler_counts_its_tasks(
    tmp_path: Path, keys: Path, engine: str
) -> None:
    address = f"tls://127.0.0.1:{free_port()}"
    security = Security(
        tls_ca_file=str(keys / layout.CA_CERT),
        tls_client_cert=str(keys / layout.CERT),
        tls_client_key=str(keys / layout.KEY),
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        require_encryption=True,
    )
    with (
        rig.scheduler(tmp_path / "scheduler", keys, int(address.rpartition(":")[2])),
        rig.dask_worker(tmp_path / "worker", keys, _worker(address, engine)),
    ):
        async with Membership(address, _tls(keys)) as membership:

            def reported() -> bool:
                member = membership.view.members.get("w1") if membership.view else None
                return bool(member and member.report and member.report.engine_version and member.report.cpu is not None)

            await _until(reported)
            member = _seen(membership).members["w1"]
            assert member.status == "running"
            report = member.report
            assert report is not None
            assert 0 <= (report.cpu or 0) <= 1
            assert 0 < report.memory_used < report.memory_total
            assert report.engine_error == ""
            assert (report.cpus, report.memory_limit) == (detect().cpus, detect().memory)
            assert report.disk_total is not None
            assert 0 < report.disk_free < report.disk_total
            async with Client(address, security=security, asynchronous=True) as client:
                assert await client.submit(sum, [1, 2]) == 3
                failing = client.submit(int, "no number")
                await failing.exception()
                await _until(lambda: _seen(membership).tasks == TaskCounts(2, 1))


async def test_it_says_that_the_scheduler_is_away_and_finds_it_again_by_itself(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALE", PATIENCE)
    address = f"tls://127.0.0.1:{free_port()}"
    port = int(address.rpartition(":")[2])
    async with Membership(address, _tls(keys)) as membership:
        assert not membership.connected
        with rig.scheduler(tmp_path / "first", keys, port):
            await _until(lambda: membership.connected)
        await _until(lambda: "away" in membership.reason)  # while it ends it may only not answer
        assert not membership.connected
        assert membership.view is not None  # what is known stays for a while
        with rig.scheduler(tmp_path / "second", keys, port):
            await _until(lambda: membership.connected)


async def test_a_scheduler_that_asks_for_tls_is_not_reached_by_a_stranger(tmp_path: Path, keys: Path) -> None:
    stranger = rig.authority().credentials(tmp_path / "stranger", "stranger", "head")
    port = free_port()
    reasons: list[str] = []
    with rig.scheduler(tmp_path / "scheduler", keys, port):
        membership = Membership(f"tls://127.0.0.1:{port}", _tls(stranger), lambda view, reason: reasons.append(reason))
        async with membership:
            await _until(lambda: reasons)
            assert not membership.connected
            assert membership.view is None
