"""What came out of a task, where that is large: a file of its user, beside those of batches, with its digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.files import QUOTA, Files
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.model import Task

PURPOSE = "task_output"


class NoRoomError(Exception):
    """It can't be kept."""


def large(said: Mapping[str, Any]) -> bool:
    """Of what a worker did. An engine's answer stays in the journal: a batch is written from there."""
    return "content" in said


class Results:
    """Its calls block, and are made one at a time, like the journal's."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store, self._files = store, files

    def kept(self, task: Task, said: Mapping[str, Any], now: float) -> tuple[Any, File]:
        """Of what `large` says so: what stays in the journal, and the file. Raises NoRoomError."""
        content, name = said["content"], str(said["name"])
        if self._store.used(task.user) + len(content) > QUOTA:
            raise NoRoomError(f"its result has no room: {task.user} has {QUOTA >> 30} GiB of files already")
        if self._files.free() < len(content):
            raise NoRoomError("its result has no room on the head host's disk")
        try:
            with self._files.writing() as writing:
                writing.write(content)
                return said["result"], writing.finish(task.user, name, PURPOSE, now)
        except OSError as e:
            raise NoRoomError(f"its result can't be kept on the head host: {e.strerror}") from e
