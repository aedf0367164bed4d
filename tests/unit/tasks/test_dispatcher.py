"""The manager's side of Dask: scheduler and worker are real."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

from distributed import Scheduler, Worker

from cluster_ai.settings import TaskWorker
from cluster_ai.tasks.batches.files import Files
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.model import Spec, State, Task
from cluster_ai.tasks.results import Results


class Hasty(Journal):
    """Whose first task is cancelled while it is taken: the cancelling waits for the journal, and comes next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(None)
        self._loop, self.dispatcher, self.cancelled = loop, Dispatcher.__new__(Dispatcher), False

    def take(self, most: int) -> list[Task]:
        tasks = super().take(most)
        if tasks and not self.cancelled:
            self.cancelled = True
            asyncio.run_coroutine_threadsafe(self.dispatcher.cancel(tasks[0].id), self._loop)
            waits = threading.Event()
            self._loop.call_soon_threadsafe(waits.set)
            waits.wait(60)
        return tasks


async def test_what_is_cancelled_just_before_it_gets_a_worker_is_never_sent(tmp_path: Path) -> None:
    journal = Hasty(asyncio.get_running_loop())
    only: dict[str, Any] = {"resources": {"CPU": 1, "MEMORY": 1 << 40}, "local_directory": str(tmp_path)}
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler,
        Worker(scheduler.address, name="w1", nthreads=2, dashboard=False, **only),
    ):
        workers = (TaskWorker("w1", 1, 1 << 40, 0, (), False),)
        results = Results(Store(journal), Files(tmp_path / "files"))
        journal.dispatcher = Dispatcher(scheduler.address, None, workers, journal, results, lambda _: None)
        running = asyncio.create_task(journal.dispatcher.run())
        first, second = journal.add("ada", [Spec("custom", {"function": "none"})] * 2, [None, None])
        async with asyncio.timeout(60):
            while not any(it.startswith(second) for it in known(scheduler)):
                journal.dispatcher.wake()
                await asyncio.sleep(0.01)
        assert not any(it.startswith(first) for it in known(scheduler))
        found = journal.get(first)
        assert found is not None
        assert (found.state, found.worker) == (State.CANCELLED, None)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    journal.close()


def known(scheduler: Any) -> set[str]:
    """Keys that it has had."""
    return {str(it[0]) for it in scheduler.transition_log}
