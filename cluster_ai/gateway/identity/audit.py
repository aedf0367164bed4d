"""What happened, as the gateway tells it: to the audit log beside its other state, and to its own log, for the journal.

A change is written down before its answer goes out: whoever has the answer finds the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cluster_ai.audit.chain import Event
from cluster_ai.audit.file import AuditFile
from cluster_ai.gateway.log import Log

FOLDER = "audit"
_ONCE = 60.0  # seconds in which bad tokens from one address are told of once: else any scanner could fill the disk
_KEPT = 4096


class Audit:
    """directory None: in the gateway's log alone."""

    def __init__(self, directory: Path | None, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = AuditFile(directory / FOLDER) if directory is not None else None
        self._log, self._clock = log, clock
        self._strangers: dict[str, float] = {}

    async def write(self, event: Event) -> None:
        """Never fails: what the disk doesn't take is in the journal, with the reason."""
        if self.file is None:
            self._log.write("audit", who=event.who, what=event.what, on=event.on, result=event.result)
            return
        try:
            lines = await asyncio.to_thread(self.file.write, event)
        except OSError as e:
            self._log.write("audit", error=f"not written: {e}", who=event.who, what=event.what, on=event.on)
            return
        for line in lines:
            self._log.write("audit", line=line)

    async def stranger(self, address: str, request: str, path: str, why: str) -> None:
        """One who came with a key or token that isn't good."""
        now = self._clock()
        if now - self._strangers.get(address, -_ONCE) < _ONCE:
            return
        if len(self._strangers) >= _KEPT:
            self._strangers.clear()
        self._strangers[address] = now
        await self.write(Event("unknown", "token.refused", path[:200], address, "refused", request=request, note=why))
