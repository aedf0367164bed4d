"""Cards as Dask's resources: the driver's library is a fake (no card here), scheduler and worker are real."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from distributed import Scheduler, Worker
from distributed.diagnostics import nvml

from cluster_ai import settings
from cluster_ai.cluster import gpu, worker_plugin
from cluster_ai.cluster.limits import Limits
from cluster_ai.cluster.means import Cards
from cluster_ai.cluster.report import Gpu
from cluster_ai.cluster.worker_plugin import Sampler
from tests.fakes.nvml import Card, Driver

ONE = Gpu(0, "NVIDIA H200", 1, 2, None, uuid="GPU-a")
TWO = replace(ONE, index=1, uuid="GPU-b")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver(Card("GPU-a"), Card("GPU-b"))
    monkeypatch.setattr(pynvml, "nvmlLib", found)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    # What Dask itself knows of the driver, it knows for good: later tests have none.
    monkeypatch.setattr(nvml, "NVML_STATE", nvml.NVMLState.DISABLED_CONFIG)
    return found


@pytest.fixture
async def dask(tmp_path: Path) -> AsyncIterator[tuple[Any, Any]]:
    """A scheduler, and a worker with two cards."""
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        more: dict[str, Any] = {"resources": {"GPU": 2}, "local_directory": str(tmp_path), "dashboard": False}
        async with Worker(scheduler.address, nthreads=1, **more) as worker:
            yield scheduler, worker


class Hanging:
    """A driver that doesn't answer before it is over."""

    def __init__(self) -> None:
        self.asked, self.over = 0, threading.Event()

    def cards(self) -> tuple[Gpu, ...]:
        self.asked += 1
        self.over.wait(60)
        return (ONE,)


@pytest.fixture
async def hanging(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hanging]:
    found = Hanging()
    monkeypatch.setattr(gpu, "cards", found.cards)
    yield found
    found.over.set()


@contextlib.asynccontextmanager
async def sampling(folder: Path, on_cards: Callable[[tuple[Gpu, ...]], Awaitable[None]]) -> AsyncIterator[Sampler]:
    told = settings.WorkerSettings("w1", "tls://127.0.0.1:1", "http://127.0.0.1:9", 1, 1, 1, (), None)
    sampler = Sampler(told, folder, Limits(1, 1), "", (TWO,), on_cards)
    running = asyncio.create_task(sampler.run())
    yield sampler
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def never(_: tuple[Gpu, ...]) -> None:
    raise AssertionError("the driver said nothing")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (the sampler tells nobody)
            await asyncio.sleep(0.01)


def test_a_worker_has_the_cards_that_cluster_yaml_gives_it_of_those_that_are_there() -> None:
    assert worker_plugin.usable(1, (ONE, TWO)) == ("GPU-a",)
    assert worker_plugin.usable(3, (ONE, TWO)) == ("GPU-a", "GPU-b")
    assert worker_plugin.usable(2, (replace(ONE, uuid=None), TWO)) == ("GPU-b",)
    assert worker_plugin.usable(0, (ONE,)) == ()


def test_before_it_registers_a_worker_takes_no_more_cards_than_there_are(caplog: pytest.LogCaptureFixture) -> None:
    state = SimpleNamespace(total_resources={"GPU": 2.0, "CPU": 4.0}, available_resources={"GPU": 2.0, "CPU": 4.0})
    worker_plugin.bound(state, "GPU", 1)
    worker_plugin.bound(state, "CPU", 8)
    assert state.total_resources == state.available_resources == {"GPU": 1, "CPU": 4.0}
    assert "GPU is 2.0 in cluster.yaml, but the host lets this worker have 1" in caplog.text


async def test_a_card_that_is_lost_is_given_to_no_task_until_it_is_back(driver: Driver, dask: tuple[Any, Any]) -> None:
    scheduler, worker = dask
    cards = Cards(("GPU-a", "GPU-b"))

    async def read() -> tuple[Any, float, float]:
        found = gpu.cards()
        assert found is not None
        await worker_plugin.fit(worker, cards, 2, found)
        seen = scheduler.workers[worker.address].resources["GPU"]
        return cards.all, seen, worker.state.total_resources["GPU"]

    assert await read() == (("GPU-a", "GPU-b"), 2, 2)
    driver.cards[0].fails["HandleByIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert await read() == (("GPU-b",), 1, 1)
    driver.cards[1].fails["MemoryInfo"] = pynvml.NVML_ERROR_RESET_REQUIRED
    assert await read() == ((), 0, 0)
    for card in driver.cards:
        card.fails.clear()
    assert await read() == (("GPU-a", "GPU-b"), 2, 2)


async def test_a_scheduler_that_cannot_be_told_of_a_card_is_told_with_the_next_reading() -> None:
    told, cards = list[float](), Cards(("GPU-a", "GPU-b"))

    async def set_resources(**resources: float) -> None:
        told.append(resources["GPU"])
        if len(told) == 1:
            raise OSError("Timed out trying to connect")

    worker = SimpleNamespace(set_resources=set_resources)
    await worker_plugin.fit(worker, cards, 2, (ONE,))
    assert cards.all == ("GPU-a", "GPU-b")
    await worker_plugin.fit(worker, cards, 2, (ONE,))
    assert told == [1, 1]
    assert {*cards.all} == {"GPU-a"}


async def test_a_worker_starts_without_cards_where_the_driver_does_not_answer(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_plugin, "DRIVER", 0.05)
    assert await worker_plugin.first_cards() == ()


async def test_a_driver_that_hangs_is_asked_once_and_its_last_answer_kept(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_plugin, "INTERVAL", 0.01)
    reports = set[float]()

    def reported() -> int:
        reports.add(sampler.latest["at"])
        return len(reports)

    async with sampling(tmp_path, never) as sampler:
        await until(lambda: reported() > 3)
        assert hanging.asked == 1
        assert [it["uuid"] for it in sampler.latest["gpus"]] == ["GPU-b"]


async def test_what_can_not_be_read_for_a_moment_does_not_end_the_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_plugin, "INTERVAL", 0.01)
    faults = [ValueError("no such text")]

    def cards() -> tuple[Gpu, ...]:
        if faults:
            raise faults.pop()
        return (ONE,)

    async def on_cards(found: tuple[Gpu, ...]) -> None:
        pass

    monkeypatch.setattr(gpu, "cards", cards)
    async with sampling(tmp_path, on_cards) as sampler:
        await until(lambda: [it["uuid"] for it in sampler.latest["gpus"]] == ["GPU-a"])
    assert "no such text" in caplog.text


async def test_while_the_driver_is_updated_no_card_is_reported_and_none_taken_from_dask(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_plugin, "INTERVAL", 0.01)
    driver.fails["nvmlInitWithFlags"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    async with sampling(tmp_path, never) as sampler:
        await until(lambda: not sampler.latest["gpus"])


async def test_the_cards_that_the_driver_shows_are_told_each_time(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_plugin, "INTERVAL", 0.01)
    told = list[list[str | None]]()

    async def on_cards(found: tuple[Gpu, ...]) -> None:
        told.append([it.uuid for it in found])

    async with sampling(tmp_path, on_cards) as sampler:
        await until(lambda: len(told) > 1)
        assert [it["uuid"] for it in sampler.latest["gpus"]] == ["GPU-a", "GPU-b"]
    assert told[0] == told[-1] == ["GPU-a", "GPU-b"]
