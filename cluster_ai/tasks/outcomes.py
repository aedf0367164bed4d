"""What a worker's answer makes of a task. Pure."""

from __future__ import annotations

from typing import Any

from cluster_ai.tasks.journal import Outcome
from cluster_ai.tasks.model import State, Task
from cluster_ai.tasks.spent import spent


def outcome(task: Task, said: dict[str, Any]) -> Outcome:
    """Of what a worker said: done, failed, or to be tried again."""
    worker = said.get("worker")
    if "error" not in said:
        return Outcome(task.id, State.DONE, worker, result=said["result"], spent=spent(task, said))
    again = not said["final"] and task.attempt <= task.spec.retries
    return Outcome(task.id, State.QUEUED if again else State.FAILED, None if again else worker, str(said["error"]))
