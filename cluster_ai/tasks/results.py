"""What came out of a task, where that is large: a file of its user, beside those of batches, with its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.files import QUOTA, Files
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.model import Task

INLINE = 256 * 1024  # bytes of JSON that the journal keeps
PURPOSE = "task_output"


class NoRoomError(Exception):
    """It can't be kept."""


class Results:
    """Its calls block, and are made one at a time, like the journal's."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store, self._files = store, files

    def kept(self, task: Task, said: Mapping[str, Any], now: float) -> tuple[Any, File | None]:
        """The result and the file, of which one is None where the other is enough. Raises NoRoomError.

        said: what the worker did. An engine's answer stays in the journal: a batch is written from there.
        """
        content, name = said.get("content"), str(said.get("name", "result.json"))
        result = said["result"]
        if content is None:
            if task.spec.kind == "ai_inference":
                return result, None
            content = json.dumps(result, separators=(",", ":")).encode()
            if len(content) <= INLINE:
                return result, None
            result = None
        if self._store.used(task.user) + len(content) > QUOTA:
            raise NoRoomError(f"its result has no room: {task.user} has {QUOTA >> 30} GiB of files already")
        if self._files.free() < len(content):
            raise NoRoomError("its result has no room on the head host's disk")
        try:
            with self._files.writing() as writing:
                writing.write(content)
                return result, writing.finish(task.user, name, PURPOSE, now)
        except OSError as e:
            raise NoRoomError(f"its result can't be kept on the head host: {e.strerror}") from e
