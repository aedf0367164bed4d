"""Which workers serve models of others that are lost: kept over the gateway's restarts."""

from __future__ import annotations

from collections.abc import Iterator

from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.placement.repair import StandIn


class StandIns:
    """In memory as in the database. What writes blocks; ask from a thread. It raises Refusal as Database does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read()

    def read(self) -> None:
        """Anew: another gateway may have written meanwhile."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT model, worker, instead_of, processor, fetched, since FROM stand_ins").fetchall()
            self._all = {(it.model, it.worker): it for it in (StandIn(*row) for row in rows)}  # before others write

    def __iter__(self) -> Iterator[StandIn]:
        return iter(tuple(self._all.values()))

    def of(self, model: str, worker: str) -> StandIn | None:
        return self._all.get((model, worker))

    def add(self, it: StandIn) -> None:
        with self._database.transaction() as db:
            row = (it.model, it.worker, it.instead_of, it.processor, it.fetched, it.since)
            db.execute("INSERT OR REPLACE INTO stand_ins VALUES (?, ?, ?, ?, ?, ?)", row)
        self._all[it.model, it.worker] = it

    def remove(self, model: str, worker: str) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM stand_ins WHERE model = ? AND worker = ?", (model, worker))
        self._all.pop((model, worker), None)
