"""An administrator's changes at run time: workers beside cluster.yaml's, contexts of models that it doesn't name."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.settings import Upstream


class FleetChanges:
    def __init__(self, database: Database) -> None:
        self._database = database

    def workers(self) -> tuple[Upstream, ...]:
        with self._database.transaction() as db:
            rows = db.execute("SELECT name, url, slots, gpu FROM workers ORDER BY registered").fetchall()
        return tuple(Upstream(row["name"], row["url"], (), row["slots"], row["gpu"]) for row in rows)

    def add_worker(self, upstream: Upstream, by: str) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?)",
                (upstream.name, upstream.url, upstream.slots, upstream.gpu, time.time(), by),
            )

    def remove_worker(self, name: str) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM workers WHERE name = ?", (name,))

    def contexts(self) -> dict[str, int]:
        with self._database.transaction() as db:
            return {row["model"]: row["context"] for row in db.execute("SELECT model, context FROM contexts")}

    def set_context(self, model: str, context: int | None) -> None:
        with self._database.transaction() as db:
            if context is None:
                db.execute("DELETE FROM contexts WHERE model = ?", (model,))
            else:
                db.execute("INSERT OR REPLACE INTO contexts VALUES (?, ?)", (model, context))


def restore(fleet: Fleet, changes: FleetChanges, note: Callable[[str], None]) -> None:
    """What was changed before a restart. What cluster.yaml names by now is cluster.yaml's."""
    for upstream in changes.workers():
        if upstream.name in fleet.workers:
            changes.remove_worker(upstream.name)
            note(f"worker {upstream.name}, once registered, is in cluster.yaml now")
        else:
            fleet.add(upstream)
    for model, context in changes.contexts().items():
        if model in fleet.contexts:
            changes.set_context(model, None)
            note(f"the context of {model}, once set, is in cluster.yaml now")
        else:
            fleet.contexts[model] = context
