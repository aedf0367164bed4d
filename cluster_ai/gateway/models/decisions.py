"""What was decided about the cluster's size, and why: kept over the gateway's restarts, the latest of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from cluster_ai.cluster.membership import Membership
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.log import Log

KEPT = 500
EVERY = 2.0  # seconds between two looks at what the scheduler decided

Kind = Literal["replicas", "processes", "power"]


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision that changed something. at: seconds since 1970. name: of a model (replicas) or a worker (its Dask
    processes; its power, where 1 is awake)."""

    at: float
    kind: Kind
    name: str
    before: int
    after: int
    reason: str
    dry_run: bool


class Decisions:
    def __init__(self, database: Database, log: Log) -> None:
        self._database, self._log = database, log

    async def add(self, it: Decided) -> None:
        """Told in the log, and kept; one that is kept already is left as it is. A disk that fails hinders nothing."""
        told = {"before": it.before, "after": it.after, "reason": it.reason, "dry_run": it.dry_run}
        self._log.write("scale", kind=it.kind, name=it.name, **told)
        try:
            await asyncio.to_thread(self._add, it)
        except Refusal as e:
            self._log.write("storage", error=e.message)

    async def follow(self, membership: Membership) -> None:
        """Keeps what the Dask scheduler decided; until it is cancelled."""
        seen = max((it.at for it in await self.latest() if it.kind == "processes"), default=0.0)
        while True:
            view = membership.view
            for it in view.decided if view is not None else ():
                if it.at > seen:
                    seen = it.at
                    await self.add(Decided(it.at, "processes", it.name, it.before, it.after, it.reason, it.dry_run))
            await asyncio.sleep(EVERY)

    async def latest(self) -> list[Decided]:
        """The newest first. Raises Refusal (503)."""
        return await asyncio.to_thread(self._latest)

    def _add(self, it: Decided) -> None:
        with self._database.transaction() as db:
            row = (it.at, it.kind, it.name, it.before, it.after, it.reason, it.dry_run)
            db.execute("INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            old = "SELECT rowid FROM decisions ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?"
            db.execute(f"DELETE FROM decisions WHERE rowid IN ({old})", (KEPT,))  # noqa: S608 (no text of others)

    def _latest(self) -> list[Decided]:
        with self._database.transaction() as db:
            found = db.execute("SELECT * FROM decisions ORDER BY at DESC, rowid DESC").fetchall()
        return [Decided(**{**row, "dry_run": bool(row["dry_run"])}) for row in found]
