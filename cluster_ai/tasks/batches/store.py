"""Files and batches as the journal's database has them. Its calls block, and are made one at a time, like those."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster_ai.tasks.batches.file import COLUMNS, File, insert
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.model import State

KEPT = 30 * 24 * 3600.0  # seconds that a file is kept, and a batch after its end
WINDOW = 24 * 3600.0  # seconds that a batch may take


class Stage(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ALIVE = (Stage.VALIDATING, Stage.IN_PROGRESS, Stage.FINALIZING, Stage.CANCELLING)


@dataclass(frozen=True, slots=True)
class Batch:
    """times: stage -> when it began, seconds since 1970. output, errors: files' ids. wrong: what is with the input."""

    id: str
    user: str
    endpoint: str
    input: str
    metadata: dict[str, str] | None
    stage: Stage
    total: int
    times: dict[str, float]
    expires: float
    output: str | None
    errors: str | None
    wrong: list[dict[str, Any]]
    counts: tuple[int, int] | None  # done and failed, once it has ended
    models: frozenset[str] | None  # canonical names of those that its user may use; None: all

    def public(self, done: int, failed: int) -> dict[str, Any]:
        """As OpenAI tells of it."""
        times = {f"{stage.value}_at": int(self.times[stage]) if stage in self.times else None for stage in Stage}
        times.pop("validating_at")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.wrong} if self.wrong else None,
            "input_file_id": self.input,
            "completion_window": "24h",
            "status": self.stage.value,
            "output_file_id": self.output,
            "error_file_id": self.errors,
            "created_at": int(self.times[Stage.VALIDATING]),
            "expires_at": int(self.expires),
            **times,
            "request_counts": {"total": self.total, "completed": done, "failed": failed},
            "metadata": self.metadata,
        }


_BATCH = "id, user, endpoint, input, metadata, state, total, times, expires, output, errors, wrong, counts, models"


class Store:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add_file(self, file: File) -> None:
        with self._journal.transaction() as db:
            insert(db, file)

    def file(self, file_id: str) -> File | None:
        rows = self._journal.rows(f"SELECT {COLUMNS} FROM files WHERE id = ?", file_id)  # noqa: S608
        return File(*rows[0]) if rows else None

    def files(self, user: str | None, purpose: str | None, after: str | None, most: int) -> list[File]:
        """The newest first. user None: everybody's."""
        where, values = _page("files", {"user": user, "purpose": purpose}, after)
        rows = self._journal.rows(
            f"SELECT {COLUMNS} FROM files {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
            *values,
            most,
        )
        return [File(*row) for row in rows]

    def forget_file(self, file_id: str) -> None:
        with self._journal.transaction() as db:
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))

    def ids(self) -> set[str]:
        """Of everybody's files."""
        return {row[0] for row in self._journal.rows("SELECT id FROM files")}

    def used(self, user: str) -> int:
        """Bytes of this user's files."""
        ((found,),) = self._journal.rows("SELECT coalesce(sum(bytes), 0) FROM files WHERE user = ?", user)
        return int(found)

    def over(self) -> list[File]:
        """Files whose time is over."""
        rows = self._journal.rows(f"SELECT {COLUMNS} FROM files WHERE expires < ?", self._journal.now)  # noqa: S608
        return [File(*row) for row in rows]

    def add_batch(
        self,
        user: str,
        key: str | None,
        endpoint: str,
        file_id: str,
        metadata: dict[str, str] | None,
        models: Sequence[str] | None,
    ) -> Batch:
        """A key that this user gave before names the batch of then."""
        now = self._journal.now
        with self._journal.transaction() as db:
            found = (
                key is not None
                and db.execute(
                    f"SELECT {_BATCH} FROM batches WHERE user = ? AND key = ?",  # noqa: S608
                    (user, key),
                ).fetchone()
            )
            if found:
                return _batch(found)
            batch_id = f"batch_{secrets.token_hex(12)}"
            db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, 'validating', 0, ?, ?, NULL, NULL, '[]', NULL,"
                " (SELECT coalesce(max(number), 0) + 1 FROM batches), ?)",
                (
                    *(batch_id, user, key, endpoint, file_id, json.dumps(metadata)),
                    *(json.dumps({Stage.VALIDATING: now}), now + WINDOW, json.dumps(models)),
                ),
            )
        made = self.batch(batch_id)
        assert made is not None
        return made

    def batch(self, batch_id: str) -> Batch | None:
        rows = self._journal.rows(f"SELECT {_BATCH} FROM batches WHERE id = ?", batch_id)  # noqa: S608
        return _batch(rows[0]) if rows else None

    def batches(self, user: str | None, after: str | None, most: int) -> list[Batch]:
        where, values = _page("batches", {"user": user}, after)
        rows = self._journal.rows(
            f"SELECT {_BATCH} FROM batches {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
            *values,
            most,
        )
        return [_batch(row) for row in rows]

    def alive(self) -> list[Batch]:
        marks = ", ".join(f"'{stage.value}'" for stage in ALIVE)
        rows = self._journal.rows(f"SELECT {_BATCH} FROM batches WHERE state IN ({marks}) ORDER BY number")  # noqa: S608
        return [_batch(row) for row in rows]

    def turn(
        self,
        batch_id: str,
        stage: Stage,
        *,
        of: Sequence[Stage],
        total: int | None = None,
        wrong: Sequence[dict[str, Any]] = (),
        counts: tuple[int, int] | None = None,
        output: File | None = None,
        errors: File | None = None,
    ) -> bool:
        """Into another stage, with what came out, at once; whether it was in one of these before."""
        with self._journal.transaction() as db:
            found = db.execute("SELECT state, times FROM batches WHERE id = ?", (batch_id,)).fetchone()
            if found is None or Stage(found[0]) not in of:
                return False
            times = {**json.loads(found[1]), stage.value: self._journal.now}
            for file in (output, errors):
                if file is not None:
                    insert(db, file)
            db.execute(
                "UPDATE batches SET state = ?, times = ?, total = coalesce(?, total), wrong = ?, counts = ?,"
                " output = ?, errors = ? WHERE id = ?",
                (
                    *(stage.value, json.dumps(times), total, json.dumps(list(wrong))),
                    json.dumps(counts) if counts is not None else None,
                    *(output.id if output else None, errors.id if errors else None, batch_id),
                ),
            )
        return True

    def counts(self, batch_id: str) -> dict[State, int]:
        """Of its tasks."""
        rows = self._journal.rows("SELECT state, count(*) FROM tasks WHERE batch = ? GROUP BY state", batch_id)
        found = dict(rows)
        return {state: found.get(state.value, 0) for state in State}

    def sent(self, batch_id: str) -> list[str]:
        """Of its tasks those that Dask has."""
        return [
            row[0] for row in self._journal.rows("SELECT id FROM tasks WHERE batch = ? AND state = 'sent'", batch_id)
        ]

    def cancel_waiting(self, batch_id: str) -> None:
        with self._journal.transaction() as db:
            db.execute(
                "UPDATE tasks SET state = 'cancelled', ended = ? WHERE batch = ? AND state = 'queued'",
                (self._journal.now, batch_id),
            )

    def forget(self) -> None:
        """Batches that ended long ago; their tasks go as all tasks do."""
        ended = ", ".join(f"'{stage.value}'" for stage in Stage if stage not in ALIVE)
        with self._journal.transaction() as db:
            db.execute(
                f"DELETE FROM batches WHERE state IN ({ended}) AND expires < ?",  # noqa: S608
                (self._journal.now - KEPT,),
            )


def _batch(row: Sequence[Any]) -> Batch:
    batch_id, user, endpoint, file_id, metadata, stage, total, times, expires, output, errors, wrong, counts, models = (
        row
    )
    told = json.loads(counts) if counts else None
    return Batch(
        *(batch_id, user, endpoint, file_id, json.loads(metadata), Stage(stage), total, json.loads(times), expires),
        *(output, errors, json.loads(wrong), (told[0], told[1]) if told else None),
        frozenset(allowed) if models and (allowed := json.loads(models)) is not None else None,
    )


def _page(table: str, wanted: dict[str, str | None], after: str | None) -> tuple[str, list[object]]:
    terms, values = ["1"], list[object]()
    for column, value in wanted.items():
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    if after is not None:
        terms.append(f"number < (SELECT number FROM {table} WHERE id = ?)")  # noqa: S608
        values.append(after)
    return "WHERE " + " AND ".join(terms), values
