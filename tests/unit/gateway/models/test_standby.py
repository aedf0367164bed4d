"""When a host is woken, and when it may sleep, before engines and a Dask that stand still."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from cluster_ai.cluster.membership import Left, Member, Membership, View
from cluster_ai.engine.client import EngineState
from cluster_ai.errors import UnavailableError
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.cordons import CordonFile, Cordons
from cluster_ai.gateway.fleet import Fleet, State
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.models import standby
from cluster_ai.gateway.models.decisions import Decisions
from cluster_ai.gateway.models.standby import AGAIN, REASON, RENEWING, SINKS, WAITS, WAKES, Sleepers, Standby
from cluster_ai.gateway.power import WakeError
from cluster_ai.settings import GatewaySettings, StandbySettings, Upstream

GB = 10**9
IDLE = 60.0
TOLD = StandbySettings("52:54:00:00:00:01", (), None, IDLE, False)


class Dask:
    """Stands in for the membership."""

    def __init__(self) -> None:
        self.connected, self.reason, self.fails, self.slept = True, "", False, 0
        self.executing, self.waiting, self.left = 0, 0, Left(0, 0)
        self._cordoned: dict[str, Left] = {}

    @property
    def view(self) -> View:
        members = {"s": Member("s", "tls://s:8790", "running", self.executing, None)}
        return View(members, None, 0, dict.fromkeys(self._cordoned, self.left), (), self.waiting)

    async def cordon(self, names: Mapping[str, bool]) -> Mapping[str, Left]:
        self._cordoned = dict.fromkeys(names, self.left)
        return self._cordoned

    async def sleep(self, address: str) -> None:
        if self.fails:
            raise UnavailableError("it doesn't answer")
        self.slept += 1


class Site:
    def __init__(self, told: StandbySettings = TOLD, database: Database | None = None) -> None:
        upstreams = Upstream("a", "http://a", (), 1, 0), Upstream("s", "http://s", (), 1, 0, ram_room=GB, standby=told)
        self.fleet = Fleet(GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", upstreams, {}))
        self.worker = self.fleet.workers["s"]
        self.dask, self.text, self.now, self.woken = Dask(), io.StringIO(), 1000.0, 0
        self.paused, self.turns, self.fault = "", 0, ""
        log, self.database = Log(self.text), database or Database(None)
        membership = cast(Membership, self.dask)
        self.cordons = Cordons(self.fleet, membership, CordonFile(None), log)
        reconciler, tasks = MagicMock(), MagicMock(there=False)
        reconciler.works_on.return_value = False
        reconciler.paused = self._paused
        stand_ins: Any = []
        self.it = Standby(
            *(self.fleet, self.cordons, membership, tasks, stand_ins, reconciler),
            *(Decisions(self.database, log), Sleepers(self.database), log),
            clock=lambda: self.now,
        )

    def _paused(self) -> str:
        self.turns += 1
        return self.paused

    async def wake(self, told: StandbySettings) -> None:
        if self.fault:
            raise WakeError(self.fault)
        self.woken += 1

    def answers(self, *, yes: bool) -> None:
        if yes:
            self.fleet.answered(self.worker, EngineState("1", (), ()))
        else:
            self.fleet.failed(self.worker, "refused", self.now, certain=True)

    async def settled(self) -> None:
        until = self.turns + 3
        while self.turns < until:  # noqa: ASYNC110 (nobody tells of a turn)
            await asyncio.sleep(0.001)

    async def asleep(self) -> None:
        """Sent there, and gone."""
        await self.settled()
        self.now += IDLE
        await self.until(lambda: self.dask.slept == 1)
        self.answers(yes=False)
        await self.settled()
        assert self.worker.state is State.ASLEEP

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 (nobody tells of it)
                await asyncio.sleep(0.001)

    async def decided(self) -> list[tuple[int, int, str]]:
        return [(it.before, it.after, it.reason) for it in reversed(await self.it.decisions.latest())]

    def errors(self) -> list[str]:
        lines = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [it["error"] for it in lines if it["event"] == "standby" and "error" in it]


@asynccontextmanager
async def running(site: Site, monkeypatch: pytest.MonkeyPatch, *, up: bool = True) -> AsyncIterator[Site]:
    monkeypatch.setattr(standby, "EVERY", 0.001)
    monkeypatch.setattr(standby, "wake", site.wake)
    await site.cordons.resume(site.worker)  # Dask is told once
    site.answers(yes=up)
    task = asyncio.create_task(site.it.run())
    try:
        yield site
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_it_is_drained_sleeps_when_idle_and_is_back_when_it_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        site.dask.left = Left(1, 0)
        await site.settled()
        site.now += IDLE - 1
        await site.settled()
        assert site.worker.state is State.ACTIVE
        site.now += 1
        await site.until(lambda: site.worker.state is State.DRAINING)
        await site.settled()
        assert site.dask.slept == 0  # a task is still there
        site.dask.left = Left(0, 0)
        await site.until(lambda: site.dask.slept == 1)
        site.answers(yes=False)
        await site.settled()
        assert (site.worker.state, site.worker.reason) == (State.ASLEEP, "on standby, until it is needed")
        site.it.want(GB, "m: 8 requests at once")
        await site.until(lambda: site.woken == 1)
        site.it.want(GB, "m: 8 requests at once")
        await site.settled()
        assert site.woken == 1  # it is on its way
        site.answers(yes=True)
        await site.until(lambda: site.worker.state is State.ACTIVE)
        assert await site.decided() == [
            (1, 0, "nothing to do for 60 s"),
            (0, 1, "m: 8 requests at once"),
        ]


async def test_one_that_never_answered_sleeps_and_one_that_was_awake_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch, up=False) as site:
        await site.until(lambda: site.worker.state is State.ASLEEP)
        site.answers(yes=True)
        await site.until(lambda: not site.worker.asleep)  # somebody pressed its button
        site.answers(yes=False)
        await site.settled()
        assert site.worker.state is State.DOWN
        assert not await site.decided()


async def test_who_sleeps_is_known_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        await site.asleep()
    async with running(Site(database=site.database), monkeypatch, up=False) as again:
        await again.until(lambda: again.worker.state is State.ASLEEP)


@pytest.mark.parametrize("work", ["tasks", "requests", "a rollout", "somebody's cordon"])
async def test_one_that_is_needed_stays_awake(monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    async with running(Site(), monkeypatch) as site:
        if work == "tasks":
            site.dask.executing = 1
        elif work == "requests":
            site.worker.flights.add(MagicMock())
        elif work == "a rollout":
            site.paused = "somebody: apply"
        else:
            await site.cordons.cordon(site.worker, "new fans", drain=True)
        await site.settled()
        site.now += 10 * IDLE
        await site.settled()
        assert site.dask.slept == 0
        assert site.worker.cordon is None or site.worker.cordon.reason != REASON


async def test_a_replica_that_would_not_fit_there_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch, up=False) as site:
        await site.until(lambda: site.worker.state is State.ASLEEP)
        site.it.want(GB + 1, "m: 8 requests at once")
        await site.settled()
        assert site.woken == 0


async def test_tasks_that_wait_for_room_wake_one_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch, up=False) as site:
        site.dask.waiting = 7
        await site.settled()
        site.now += WAITS - 1
        await site.settled()
        assert site.woken == 0
        site.now += 1
        await site.until(lambda: site.woken == 1)
        assert await site.decided() == [(0, 1, "no worker has room for 7 tasks")]


async def test_one_that_sleeps_for_days_is_woken_to_renew_its_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        await site.asleep()
        assert site.woken == 0
        monkeypatch.setattr(standby, "RENEWS", -1.0)
        await site.until(lambda: site.woken == 1)
        site.answers(yes=True)
        await site.until(lambda: site.worker.state is State.ACTIVE)
        await site.settled()
        site.now += RENEWING - 1
        await site.settled()
        assert site.dask.slept == 1  # it is awake for long enough
        site.now += IDLE
        await site.until(lambda: site.dask.slept == 2)


async def test_one_that_is_needed_while_it_is_drained_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        site.dask.left = Left(1, 0)
        await site.settled()
        site.now += IDLE
        await site.until(lambda: site.worker.state is State.DRAINING)
        site.it.want(GB, "m: 8 requests at once")
        await site.until(lambda: site.worker.state is State.ACTIVE)
        assert site.dask.slept == 0


async def test_one_whose_tasks_are_not_known_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        site.dask.left = Left(1, 0)
        await site.settled()
        site.now += IDLE
        await site.until(lambda: site.worker.state is State.DRAINING)
        site.cordons.seen(None, "the scheduler doesn't answer")  # for a moment
        await site.until(lambda: site.worker.state is State.ACTIVE)
        assert site.errors() == ["it can't be sent to sleep: Dask doesn't tell whether it still has tasks"]
        assert site.dask.slept == 0


async def test_what_goes_wrong_is_told_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Site(), monkeypatch) as site:
        site.dask.fails = True
        await site.settled()
        site.now += IDLE
        await site.until(lambda: len(site.errors()) == 1)
        assert site.errors()[-1] == "it can't be sent to sleep: it doesn't answer"
        await site.until(lambda: site.worker.state is State.ACTIVE)
        await site.settled()
        site.dask.fails = False
        site.now += AGAIN + IDLE
        await site.until(lambda: site.dask.slept == 1)
        site.now += SINKS + 1  # it doesn't go
        await site.until(lambda: site.worker.state is State.ACTIVE)
        assert site.errors()[-1] == "it was to sleep, and answers after 180 s"
        await site.settled()
        site.now += AGAIN + IDLE
        await site.until(lambda: site.dask.slept == 2)
        site.answers(yes=False)
        await site.settled()
        site.fault = "no card answers"
        site.it.want(0, "m")
        await site.until(lambda: site.errors()[-1] == "it can't be woken: no card answers")
        site.fault = ""
        site.it.want(0, "m")
        await site.settled()
        assert site.woken == 0
        site.now += AGAIN
        site.it.want(0, "m")
        await site.until(lambda: site.woken == 1)
        site.now += WAKES + 1
        await site.until(lambda: site.errors()[-1] == "it was woken, and doesn't answer after 900 s")


async def test_a_dry_run_tells_once_and_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = StandbySettings(TOLD.mac, (), None, IDLE, True)
    async with running(Site(told), monkeypatch) as site:
        await site.settled()
        site.now += IDLE
        await site.settled()
        site.now += IDLE
        await site.settled()
        assert (site.worker.state, site.dask.slept) == (State.ACTIVE, 0)
        assert [it[:2] for it in await site.decided()] == [(1, 0)]
