"""Loaded into the Dask scheduler (`--preload cluster_ai.cluster.scheduler_plugin`): counts, cordons, spreads, adapts.

It also listens whether workers are heard of. Dask itself forgets a task with its last client. Counts, cordons and who
is silent are asked for by membership.py over Dask's own protocol. CLUSTER_AI_SCHEDULER_SETTINGS is the path of the
scheduler's settings, where it has any.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from cluster_ai import settings
from cluster_ai.cluster.adaptive import Adapting
from cluster_ai.cluster.cordons import Cordons
from cluster_ai.cluster.report import CORDON, TASKS
from cluster_ai.cluster.silence import Silence
from cluster_ai.cluster.spreading import Spreading

SETTINGS = "CLUSTER_AI_SCHEDULER_SETTINGS"


class TaskCounter(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """A task that is retried ends once; one that fails because what it depends on failed counts as failed."""

    name = "cluster-ai-tasks"

    def __init__(self) -> None:
        self.total = 0
        self.failed = 0

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if finish == "erred" and start != "erred":
            self.total += 1
            self.failed += 1
        elif finish == "memory" and start == "processing":
            self.total += 1

    def counts(self) -> dict[str, int]:
        return {"total": self.total, "failed": self.failed}


def dask_setup(scheduler: Any) -> None:
    """Called by Dask when the scheduler starts."""
    counter, cordons, silence, spreading = TaskCounter(), Cordons(scheduler), Silence(scheduler), Spreading(scheduler)
    for plugin in (counter, cordons, silence, spreading):
        scheduler.add_plugin(plugin)
    adapting: Adapting | None = None
    if SETTINGS in os.environ:
        told = settings.load(settings.SchedulerSettings, Path(os.environ[SETTINGS]))
        adapting = Adapting(scheduler, cordons, told.processes)
        scheduler.add_plugin(adapting)

    def tasks() -> dict[str, Any]:
        decided = list(adapting.decided) if adapting is not None else []
        counts = {**counter.counts(), "waiting": spreading.waiting + len(scheduler.unrunnable)}
        return {**counts, "cordoned": cordons.left(), "silent": silence.silent(), "decided": decided}

    scheduler.handlers[TASKS] = tasks
    scheduler.handlers[CORDON] = cordons.cordon
