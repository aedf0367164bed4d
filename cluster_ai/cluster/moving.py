"""In the Dask scheduler: how a worker process is kept from beginning anything, and what it hasn't begun is moved away.

Its status is then the one that Dask uses for retiring; tasks are moved by Dask's stealing, which asks the worker first.
"""

from __future__ import annotations

import time
from typing import Any

from distributed.core import Status


def hold(scheduler: Any, ws: Any) -> None:
    """It starts nothing from now on."""
    if ws.status in (Status.running, Status.paused):
        _set(scheduler, ws, Status.closing_gracefully)


def release(scheduler: Any, ws: Any) -> None:
    if ws.status is Status.closing_gracefully:
        _set(scheduler, ws, Status.running)


def move_tasks(scheduler: Any, ws: Any) -> None:
    """What it has not begun goes to others, where others may run it."""
    stealing = scheduler.extensions["stealing"]
    for ts in list(ws.processing):
        begun = ts in ws.executing or ts in ws.long_running
        if not begun and not ts.actor and (able := others(scheduler, ws, ts)):
            thief = min(able, key=lambda other: scheduler.worker_objective(ts, other))
            stealing.move_task_request(ts, ws, thief)


def others(scheduler: Any, ws: Any, ts: Any) -> set[Any]:
    """Who else may run a task."""
    running = {other for other in scheduler.running if other is not ws}
    valid: set[Any] | None = scheduler.valid_workers(ts)
    if valid is None or (not valid & running and ts.loose_restrictions):
        return running
    return running & valid


def _set(scheduler: Any, ws: Any, status: Status) -> None:
    """Here at once, so that nothing is sent in between; the worker follows, and confirms."""
    stimulus = f"cluster-ai-cordon-{time.time()}"
    scheduler.handle_worker_status_change(status, ws, stimulus)
    message = {"op": "worker-status-change", "status": status.name, "stimulus_id": stimulus}
    scheduler.stream_comms[ws.address].send(message)
