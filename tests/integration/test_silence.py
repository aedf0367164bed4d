"""A worker that hangs, frozen by SIGSTOP: its connections stay, as a host's do that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from cluster_ai import layout, settings
from cluster_ai.cluster.silence import LATE
from cluster_ai.tls.dask import security
from tests.rig import cluster as rig
from tests.rig.processes import Process, together, until
from tests.rig.tasks import Site, site

pytestmark = pytest.mark.integration
ENGINE = "http://127.0.0.1:9"  # none: no task here asks one


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, ENGINE) as found:
        yield found


def note(folder: Path, text: str, go: Path | None = None, *, idempotent: bool) -> dict[str, Any]:
    arguments = {"path": str(folder / "evidence"), "text": text, "until": str(go) if go else None}
    return {"kind": "custom", "payload": {"function": "note", "arguments": arguments}, "idempotent": idempotent}


def evidence(folder: Path) -> list[str]:
    path = folder / "evidence"
    return path.read_text().splitlines() if path.exists() else []


def freeze(process: Process) -> None:
    os.killpg(process.popen.pid, signal.SIGSTOP)


def thaw(process: Process) -> None:
    os.killpg(process.popen.pid, signal.SIGCONT)


def seen(site: Site) -> list[float]:
    """When the scheduler heard of its workers last, in seconds of its clock."""

    async def asked() -> list[float]:
        keys = security(site.keys)
        async with Client(site.scheduler_url, security=keys, asynchronous=True, set_as_default=False) as client:
            found = await client.scheduler.identity(n_workers=-1)
            return [it["last_seen"] for it in found["workers"].values()]

    return asyncio.run(asked())


def test_one_that_hangs_is_told_gets_nothing_new_and_goes_on_where_it_was_once_it_is_heard_of_again(
    here: Site, tmp_path: Path
) -> None:
    told = rig.gateway_settings(
        scheduler=here.scheduler_url,
        upstreams=tuple(settings.Upstream(name, ENGINE, (), 1, 0) for name in ("w1", "w2")),
    )
    (here.keys / layout.GATEWAY_TOKEN).write_text(rig.TOKEN)
    go = tmp_path / "go"
    gateway = rig.gateway(tmp_path / "gateway", told, here.keys, workers=0)
    parts = (here.scheduler(), here.worker("w1"), here.manager("w1", "w2"), gateway)
    with together(*parts) as (_, first, _, (url, _)):

        def dask(name: str) -> str:
            found: str = rig.get(f"{url}/api/v1/cluster/workers/{name}", token=rig.TOKEN)["dask"]
            return found

        (running,) = here.submit(note(tmp_path, "running", go, idempotent=False))
        until(lambda: evidence(tmp_path) == ["running"], what="the first task runs")
        with here.worker("w2"):
            until(lambda: (dask("w1"), dask("w2")) == ("present", "present"))
            freeze(first)
            try:
                until(lambda: dask("w1") == "silent", what="it is silent")
                said = rig.get(f"{url}/api/v1/cluster/workers/w1", token=rig.TOKEN)
                assert said["warnings"] == [
                    "nothing is heard of its Dask worker: it gets no tasks, and what it had is waited for"
                ]
                assert said["cpu"] is None
                others = here.submit(*(note(tmp_path, f"{n}", idempotent=n % 2 == 0) for n in range(6)))
                until(lambda: here.ended(*others), what="the other worker has done them")
                assert {here.task(it)["worker"] for it in others} == {"w2"}
                assert here.task(running)["state"] == "sent"
            finally:
                thaw(first)
            until(lambda: dask("w1") == "present", what="it is heard of again")
            go.touch()
            until(lambda: here.ended(running))
            assert (here.task(running)["state"], here.task(running)["worker"]) == ("done", "w1")


def test_what_may_not_repeat_is_given_to_none_that_hangs_though_it_is_not_silent_yet(
    here: Site, tmp_path: Path
) -> None:
    parts = (here.scheduler(), here.worker("w1"), here.worker("w2"), here.manager("w1", "w2"))
    with together(*parts) as (_, first, _, _):
        until(lambda: len(seen(here)) == 2, what="both are there")
        freeze(first)
        try:
            until(lambda: max(it := seen(here)) - min(it) > LATE + 4, what="the manager has missed it")
            once = here.submit(*(note(tmp_path, f"{n}", idempotent=False) for n in range(3)))
            until(lambda: here.ended(*once), what="the other worker has done them")
            assert {here.task(it)["worker"] for it in once} == {"w2"}
            (held,) = here.submit(note(tmp_path, "held", tmp_path / "never", idempotent=False))
            until(lambda: "held" in evidence(tmp_path), within=60, what="the other worker runs one more")
            assert here.ask("POST", f"/tasks/{held}/cancel")["state"] == "cancelled"  # though one can't be asked
            (after,) = here.submit(note(tmp_path, "after", idempotent=False))
            until(lambda: here.ended(after), within=90, what="what ran there was stopped")
        finally:
            thaw(first)


def test_one_that_hangs_for_long_is_lost_and_what_may_begin_again_does_so_elsewhere(here: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with together(here.scheduler(ttl="20s"), here.worker("w1"), here.manager("w1", "w2")) as (_, first, _):
        again, once = here.submit(
            note(tmp_path, "again", go, idempotent=True), note(tmp_path, "once", idempotent=False)
        )
        until(lambda: "again" in evidence(tmp_path), what="it runs on the first worker")
        until(lambda: here.task(once)["worker"] == "w1", what="the other one is that worker's too")
        freeze(first)
        try:
            with here.worker("w2"):
                go.touch()
                until(lambda: here.ended(again), what="another worker has done it")
                assert (here.task(again)["state"], here.task(again)["worker"]) == ("done", "w2")
                assert here.task(once)["state"] in ("queued", "sent")  # it is the first worker's
        finally:
            thaw(first)
