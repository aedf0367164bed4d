"""On a worker's disk: which tasks have begun here, and what came out. So nothing begins twice, whoever died meanwhile.

Only for tasks that aren't idempotent; one file each, named by task and attempt.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

KEPT = 7 * 24 * 3600.0  # seconds


class BegunError(Exception):
    """This attempt began here before, and its end is not known."""


class Ledger:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, name: str) -> dict[str, Any] | None:
        """None: it may begin now. Else what came out when it ran. Raises BegunError, and OSError."""
        path = self._folder / name
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            text = path.read_text()
            if not text:
                raise BegunError(name) from None
            found: dict[str, Any] = json.loads(text)
            return found
        os.close(handle)
        self._sync()
        return None

    def end(self, name: str, outcome: dict[str, Any]) -> None:
        beside = self._folder / f".{name}"
        with beside.open("w") as file:
            file.write(json.dumps(outcome))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / name)
        self._sync()

    def tidy(self) -> None:
        """Forget what nobody asks for any more."""
        for path in self._folder.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT:
                    path.unlink()

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
