"""A sweep over a scheduler that stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from cluster_ai.cluster import spreading
from cluster_ai.cluster.spreading import Spreading


@dataclass(eq=False)
class Task:
    priority: tuple[int, ...]
    resource_restrictions: dict[str, float]
    worker_restrictions: set[str] | None = None
    host_restrictions: set[str] | None = None
    actor: bool = False


@dataclass(eq=False)
class Worker:
    resources: dict[str, float]
    processing: list[Task] = field(default_factory=list)
    executing: list[Task] = field(default_factory=list)


class Scheduler:
    def __init__(self, *workers: Worker) -> None:
        self.running = self.workers = list(workers)
        self.asked, self.moved = 0, list[tuple[Task, Worker]]()
        self.extensions = {"stealing": SimpleNamespace(move_task_request=self._move)}

    def valid_workers(self, task: Task) -> list[Worker]:
        self.asked += 1
        may = task.worker_restrictions or {str(n) for n in range(len(self.running))}
        return [it for n, it in enumerate(self.running) if str(n) in may]

    def _move(self, task: Task, victim: Worker, thief: Worker) -> None:
        self.moved.append((task, thief))


def worker(cpu: float, *tasks: Task) -> Worker:
    return Worker({"CPU": cpu}, list(tasks), list(tasks[:1]))


def tasks(count: int, **more: Any) -> list[Task]:
    return [Task((n,), {"CPU": 1}, **more) for n in range(count)]


async def swept(*workers: Worker) -> Scheduler:
    """After one sweep."""
    scheduler = Scheduler(*workers)
    it = Spreading(scheduler)
    it.add_worker(scheduler, "w")
    while not scheduler.asked:  # noqa: ASYNC110 (nobody tells of a sweep)
        await asyncio.sleep(0)
    await it.close()
    return scheduler


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "SWEEP", 0.0)


async def test_where_nobody_is_free_each_kind_of_need_is_looked_for_once() -> None:
    scheduler = await swept(worker(1, *tasks(500)), worker(1, *tasks(500), *tasks(3, worker_restrictions={"0"})))
    assert (scheduler.asked, scheduler.moved) == (2, [])


async def test_what_waits_goes_where_it_may_and_fits() -> None:
    waiting = [*tasks(3), *tasks(2, worker_restrictions={"1"})]
    there = [worker(1, *waiting), worker(1), worker(1)]
    scheduler = await swept(*there)
    assert scheduler.moved == [(waiting[3], there[1]), (waiting[1], there[2])]
