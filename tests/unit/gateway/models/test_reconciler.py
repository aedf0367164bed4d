"""Steps that fail wait before they are tried again, whatever they failed by."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from cluster_ai.gateway.models import reconciler
from cluster_ai.gateway.models.reconciler import Reconciler
from cluster_ai.placement.repair import Step

STEP = Step("unload", "m", "w1", "cpu", "nobody asks for it")


def made(fault: Exception) -> tuple[Reconciler, MagicMock]:
    async def fail(*asked: Any) -> None:
        raise fault

    registry, actuator, log = MagicMock(named={}), MagicMock(unload=fail), MagicMock()
    parts = MagicMock(workers={"w1": MagicMock()}), registry, MagicMock(), actuator, MagicMock(), log
    return Reconciler(*parts, lambda: ""), log


async def take(it: Reconciler) -> None:
    it.begin(STEP)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "unload:m:w1"))


@pytest.mark.parametrize(("fault", "told"), [(PermissionError(13, "Permission denied"), "denied"), (KeyError(), "Key")])
async def test_a_fault_of_whatever_kind_is_told_and_waits(fault: Exception, told: str) -> None:
    it, log = made(fault)
    await take(it)
    assert it.failing("m") == {"w1"}
    assert told in log.write.call_args.kwargs["error"]


async def test_however_often_a_step_has_failed_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "AGAIN", (0.0, 600.0))
    it, log = made(OSError("no"))
    for _ in range(1100):  # twice as long each time, the wait would be no float by then
        await take(it)
    assert [call.kwargs.get("again_in") for call in log.write.call_args_list] == [None, 0.0] * 1100


async def test_once_a_pause_ends_who_stands_in_is_read_again_before_anything_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "EVERY", 0.0)
    why, told, stand_ins = ["ada: apply"], asyncio.Event(), MagicMock()
    log = MagicMock(write=lambda *event, **fields: told.set())
    registry = MagicMock(named={})
    it = Reconciler(MagicMock(workers={}), registry, stand_ins, MagicMock(), MagicMock(), log, lambda: why[0])
    running = asyncio.create_task(it.run())
    try:
        async with asyncio.timeout(60):
            await told.wait()
            assert not stand_ins.read.called
            told.clear()
            why[0] = ""
            assert it.paused() == "ada: apply"
            await told.wait()
        assert stand_ins.read.call_count == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
