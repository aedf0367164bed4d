"""What a model's load is taken to be, before parts that stand still."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest.mock import MagicMock

import pytest
from prometheus_client import CollectorRegistry

from cluster_ai.gateway.fleet import State
from cluster_ai.gateway.metering import Meter
from cluster_ai.gateway.models import autoscaler
from cluster_ai.gateway.models.autoscaler import Autoscaler
from cluster_ai.gateway.models.decisions import Decided
from cluster_ai.settings import ScaleSettings

M = "m:latest"
SCALE = ScaleSettings(1, 3, 4, 1.0, 300.0, None, 0.0, (), True)


class Here:
    """One worker, which has the model in memory; a request waits for 9 s between two looks."""

    def __init__(self, scale: ScaleSettings) -> None:
        metrics = CollectorRegistry()
        meter, self.worker = Meter(metrics), MagicMock(state=State.ACTIVE, flights=[], loaded={M}, placed={M})
        self.worker.name = "w1"
        self.turns, self.waits, self.reconciler = 0, True, MagicMock()
        self.reconciler.coming.return_value = set()
        fleet, registry, self.gate = MagicMock(workers={"w1": self.worker}), MagicMock(), MagicMock()
        fleet.able.return_value = [self.worker]
        registry.named = {M: MagicMock(scale=scale)}
        self.gate.under_way.return_value = {}

        def paused() -> str:
            self.turns += 1
            if self.waits:
                meter.queued(M, 9.0)
            return ""

        self.reconciler.paused = paused
        self.decided: list[Decided] = []
        decisions = MagicMock()
        decisions.add = self._add
        others: Any = decisions, MagicMock(), meter, metrics, MagicMock()
        self.scaler = Autoscaler(fleet, self.gate, registry, MagicMock(), self.reconciler, MagicMock(), *others)

    async def _add(self, it: Decided) -> None:
        self.decided.append(it)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.scaler.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def some_turns(self) -> None:
        until = self.turns + 5
        while self.turns < until:  # noqa: ASYNC110 (nobody tells of a turn)
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler, "SAMPLE", 0.001)
    monkeypatch.setattr(autoscaler, "EVERY", 0.001)


async def test_while_one_more_is_coming_those_who_wait_ask_for_no_other() -> None:
    here = Here(SCALE)
    here.reconciler.coming.return_value = {"w2"}
    async with here.running():
        await here.some_turns()
        assert {it.after for it in here.decided} <= {2}  # the two of now, as those that wait get them
        here.reconciler.coming.return_value = set()
        await here.some_turns()
        assert here.decided[-1].reason == "requests wait 9 s, at most 1 s are meant"


async def test_that_a_model_is_loaded_and_asked_about_is_no_load() -> None:
    here = Here(SCALE)
    here.waits, here.worker.flights = False, [MagicMock(model=M)] * 8
    async with here.running():
        await here.some_turns()
        assert not here.decided
        here.gate.under_way.return_value = {M: 8}
        while not here.decided:  # noqa: ASYNC110 (nobody tells of it; a mean needs some looks)
            await asyncio.sleep(0)
        assert (here.decided[0].before, here.decided[0].after) == (1, 2)


async def test_nothing_is_decided_before_each_worker_has_said_what_it_has() -> None:
    here = Here(SCALE)
    here.worker.state = State.JOINING
    async with here.running():
        await here.some_turns()
        assert not here.decided
        here.worker.state = State.DOWN
        await here.some_turns()
        assert here.decided


async def test_a_model_that_answers_tasks_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MagicMock()
    clock.monotonic.return_value, clock.time.return_value = 1000.0, 0.0
    monkeypatch.setattr(autoscaler, "time", clock)
    here = Here(dataclasses.replace(SCALE, cool_down=0.0, idle=600.0))
    here.waits = False
    async with here.running():
        clock.monotonic.return_value = 1599.0
        here.scaler.used({M, "another:latest"})
        clock.monotonic.return_value = 2198.0
        await here.some_turns()
        assert not here.decided
        clock.monotonic.return_value = 2199.0
        await here.some_turns()
        assert here.decided[-1].reason == "no request for 600 s"
