"""Dask goes on over a change of the CA, and a host that left the cluster loses its connections: real processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.cluster.membership import Membership, Tls
from cluster_ai.security import ca
from cluster_ai.tls.preload import __name__ as preload
from tests.rig.processes import PATIENCE, free_port, running

pytestmark = pytest.mark.integration


class Cluster:
    """A root that changes, and the folder of each host."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._generation = folder, 0
        self.root = ca.create("test")
        self.trusted = self.root.cert

    def turn(self) -> None:
        """Another root; the one before is trusted still."""
        new = ca.create("test")
        self.trusted, self.root = new.cert + self.root.cert, new

    def give(self, name: str, hosts: str) -> Path:
        """A host's files, behind a link that is set anew in one step."""
        self._generation += 1
        place, link = self._folder / f"{name}-{self._generation}", self._folder / name
        place.mkdir()
        pair = ca.issue(ca.delegate(self.root, "test"), name, ["127.0.0.1"], "worker")
        (place / layout.CA_CERT).write_bytes(self.trusted)
        (place / layout.CERT).write_bytes(pair.cert)
        (place / layout.KEY).write_bytes(pair.key)
        (place / layout.HOSTS).write_text(hosts)
        new = self._folder / f"{name}.new"
        new.symlink_to(place)
        new.replace(link)
        return link


def environment(place: Path) -> dict[str, str]:
    comm = "DASK_DISTRIBUTED__COMM__"
    files = {
        f"{comm}TLS__{role}__{kind}": str(place / name)
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for kind, name in (("CERT", layout.CERT), ("KEY", layout.KEY))
    }
    return {
        f"{comm}REQUIRE_ENCRYPTION": "True",
        f"{comm}TLS__MIN_VERSION": "1.3",
        f"{comm}TLS__CA_FILE": str(place / layout.CA_CERT),
        "DASK_DISTRIBUTED__NANNY__PRELOAD": preload,
        **files,
    }


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.05)


async def test_roots_and_hosts_change_while_dask_runs(tmp_path: Path) -> None:
    cluster, port = Cluster(tmp_path), free_port()
    everybody = "head\nw1\nw2\nw3\n"
    places = {name: cluster.give(name, everybody) for name in everybody.split()}
    address = f"tls://127.0.0.1:{port}"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "tls://127.0.0.1"]
    scheduler += ["--port", str(port), "--dashboard-address", "127.0.0.1:0", "--preload", preload]

    def worker(name: str) -> list[str]:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--name", name, "--nthreads", "1"]
        command += ["--host", "tls://127.0.0.1", "--no-dashboard", "--preload", preload]
        return [*command, "--local-directory", str(tmp_path / f"dask-{name}")]

    tls = Tls(*(places["head"] / name for name in (layout.CA_CERT, layout.CERT, layout.KEY)))
    async with Membership(address, tls) as membership:

        def members() -> set[str]:
            return set(membership.view.members) if membership.view and membership.connected else set()

        with (
            running(scheduler, tmp_path / "scheduler.log", environment=environment(places["head"])),
            running(worker("w1"), tmp_path / "w1.log", environment=environment(places["w1"])),
            running(worker("w2"), tmp_path / "w2.log", environment=environment(places["w2"])),
        ):
            await until(lambda: members() == {"w1", "w2"})
            cluster.turn()
            for name in everybody.split():
                cluster.give(name, everybody)
            cluster.trusted = cluster.root.cert  # and now the first root counts no more
            for name in everybody.split():
                cluster.give(name, everybody)
            with running(worker("w3"), tmp_path / "w3.log", environment=environment(places["w3"])):
                await until(lambda: members() == {"w1", "w2", "w3"})
            await until(lambda: members() == {"w1", "w2"})
            for name in ("head", "w1", "w2"):
                cluster.give(name, "head\nw1\n")
            await until(lambda: members() == {"w1"})
