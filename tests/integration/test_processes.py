"""Dask worker processes come on a host while tasks wait, and go after: a real scheduler, real workers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from cluster_ai import layout
from cluster_ai.cluster.membership import Member, Membership, Tls
from cluster_ai.settings import HostProcesses, Processes, ProcessScale, SchedulerSettings, process_name
from cluster_ai.tls.dask import security
from tests.rig.processes import PATIENCE, together
from tests.rig.tasks import Site, site

pytestmark = pytest.mark.integration

GIB = 1 << 30
SHARE = Processes(3, 1, GIB, "tls://127.0.0.1")  # of three cores and 3 GiB
HOSTS = (HostProcesses("w1", 3, 1, GIB),)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (it becomes true in another process)
            await asyncio.sleep(0.1)


def membership(here: Site) -> Membership:
    return Membership(here.scheduler_url, Tls(*(here.keys / it for it in (layout.CA_CERT, layout.CERT, layout.KEY))))


def member(seen: Membership) -> Member | None:
    return seen.view.members.get("w1") if seen.view is not None else None


def there(seen: Membership) -> int:
    found = member(seen)
    return found.processes if found is not None else 0


async def test_they_come_while_tasks_wait_and_go_when_idle_and_each_task_runs_once(tmp_path: Path) -> None:
    told = SchedulerSettings(ProcessScale(1, 2.0, False, HOSTS))
    evidence, go = tmp_path / "evidence", [tmp_path / f"go {n}" for n in range(9)]
    with (
        site(tmp_path, "http://127.0.0.1:9") as here,
        together(here.scheduler(told), here.worker("w1", 3, 3, processes=SHARE), here.manager("w1", processes=3)),
    ):

        def note(text: str, until: Path | None = None) -> dict[str, Any]:
            """One that may not repeat."""
            arguments = {"path": str(evidence), "text": text, "until": str(until) if until else None}
            return {"kind": "custom", "payload": {"function": "note", "arguments": arguments}}

        def begun() -> list[str]:
            return evidence.read_text().splitlines() if evidence.exists() else []

        async with membership(here) as seen:
            await until(lambda: there(seen) == 1)
            ids = here.submit(*(note(f"{n}", it) for n, it in enumerate(go)))
            await until(lambda: len(begun()) == 3)
            await until(lambda: there(seen) == 3)
            keys = security(here.keys)
            async with Client(here.scheduler_url, security=keys, asynchronous=True, set_as_default=False) as client:
                workers = (await client.scheduler.identity(n_workers=-1))["workers"]
                assert sum(it["memory_limit"] for it in workers.values()) <= 3 * GIB
                assert sum(it["resources"]["CPU"] for it in workers.values()) == 3
                last = next(address for address, it in workers.items() if it["name"] == process_name("w1", 3))
                (key,) = (await client.processing([last]))[last]
            long = next(n for n, it in enumerate(ids) if key.startswith(it))  # what runs in the one that goes first
            for n, it in enumerate(go):
                if n != long:
                    it.touch()
            others = [it for n, it in enumerate(ids) if n != long]
            await until(lambda: here.ended(*others))
            await until(lambda: seen.view is not None and seen.view.decided and seen.view.decided[-1].after == 1)
            late = here.submit(*(note(f"late {n}") for n in range(4)))
            await until(lambda: here.ended(*late))
            assert here.task(ids[long])["state"] == "sent"
            go[long].touch()
            await until(lambda: here.ended(*ids))
            assert {(it["state"], it["worker"]) for it in map(here.task, [*ids, *late])} == {("done", "w1")}
            assert sorted(begun()) == [*(f"{n}" for n in range(9)), *(f"late {n}" for n in range(4))]
            await until(lambda: there(seen) == 1 and seen.view is not None and seen.view.decided[-1].after == 1)
            found = member(seen)
            assert found is not None
            assert found.status == "running"
            assert seen.view is not None
            assert next((it.before, it.after) for it in seen.view.decided) == (1, 3)


async def test_all_end_with_the_first_however_that_ends(tmp_path: Path) -> None:
    told = SchedulerSettings(ProcessScale(2, 2.0, False, HOSTS))
    with site(tmp_path, "http://127.0.0.1:9") as here, here.scheduler(told):
        async with membership(here) as seen:
            for how in (signal.SIGTERM, signal.SIGKILL):
                with here.worker("w1", 3, 3, processes=SHARE) as first:
                    await until(lambda: there(seen) == 2)
                    others = psutil.Process(first.popen.pid).children(recursive=True)
                    assert others
                    first.popen.send_signal(how)
                    _, alive = psutil.wait_procs(others, timeout=PATIENCE)
                    assert not alive
                await until(lambda: there(seen) == 0)
