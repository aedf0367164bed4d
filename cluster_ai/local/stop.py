"""`down`: ends a cluster on one machine, whatever state it is in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from cluster_ai.errors import LockedError
from cluster_ai.local import state
from cluster_ai.local.model import Paths

_ENOUGH = 20.0  # seconds for an orderly end; longer than the supervisor gives its processes
_STEP = 0.05


def down(root: Path) -> bool:
    """Blocks until no process is left. Whether there had been one."""
    paths = Paths(root.resolve())
    if not paths.root.is_dir():
        return False
    deadline, asked = time.monotonic() + _ENOUGH, 0
    while (lock := state.try_lock(paths)) is None:
        current = state.read(paths)
        if current and current.pid != asked:
            asked = current.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(asked, signal.SIGTERM)
        if time.monotonic() > deadline:
            state.kill_all(paths.root)
            if time.monotonic() > deadline + _ENOUGH:
                raise LockedError(
                    "a `cluster-ai up` still prepares here, and doesn't end",
                    where=str(paths.root),
                    remedy="interrupt it",
                )
        time.sleep(_STEP)
    try:
        orphans = state.processes(paths.root)
        state.kill_all(paths.root)
        paths.state.unlink(missing_ok=True)
    finally:
        os.close(lock)
    return bool(asked or orphans)
