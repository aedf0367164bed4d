"""The journal of tasks: SQLite. What it has acknowledged is on the disk.

Its calls block, and are made from one thread at a time.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster_ai.tasks.model import ENDED, Spec, State, Task

FORMAT = 1
_SCHEMA = """
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, key TEXT, spec TEXT NOT NULL, priority INTEGER NOT NULL,
    state TEXT NOT NULL, attempt INTEGER NOT NULL, submitted REAL NOT NULL, ended REAL,
    worker TEXT, error TEXT, result TEXT, number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX by_key ON tasks (user, key) WHERE key IS NOT NULL;
CREATE INDEX waiting ON tasks (priority DESC, number) WHERE state = 'queued';
CREATE INDEX by_state ON tasks (state, ended);
CREATE INDEX by_user ON tasks (user, number);
"""
_COLUMNS = "id, user, spec, state, attempt, submitted, ended, worker, error"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; QUEUED: it came to nothing, and there is to be another."""

    id: str
    state: State
    worker: str | None = None
    error: str | None = None
    result: Any = None


class Journal:
    """path None: in memory. Raises sqlite3.Error where the file can't be used, ValueError for a newer one."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # an acknowledged task outlives a power cut
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            self._db.close()
            raise ValueError(f"the journal of tasks is of format {found}; this version knows {FORMAT}")
        if found == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        (self._number,) = self._db.execute("SELECT coalesce(max(number), 0) FROM tasks").fetchone()

    def close(self) -> None:
        self._db.close()

    def add(self, user: str, specs: Sequence[Spec], keys: Sequence[str | None]) -> list[str]:
        """All of them, or none. A key that this user gave before names the task of then, whatever is asked now."""
        ids: list[str] = []
        with _Transaction(self._db):
            for spec, key in zip(specs, keys, strict=True):
                found = (
                    key is not None
                    and self._db.execute("SELECT id FROM tasks WHERE user = ? AND key = ?", (user, key)).fetchone()
                )
                if found:
                    ids.append(found[0])
                    continue
                self._number += 1
                ids.append(f"task-{secrets.token_hex(8)}")
                self._db.execute(
                    "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, 'queued', 0, ?, NULL, NULL, NULL, NULL, ?)",
                    (ids[-1], user, key, _dump(asdict(spec)), spec.priority, self._clock(), self._number),
                )
        return ids

    def take(self, most: int) -> list[Task]:
        """The next ones to run, which count as sent from now on: by priority, then by age."""
        with _Transaction(self._db):
            rows = self._select("WHERE state = 'queued' ORDER BY priority DESC, number LIMIT ?", most)
            self._db.executemany(
                "UPDATE tasks SET state = 'sent', attempt = attempt + 1 WHERE id = ?", [(row[0],) for row in rows]
            )
        return [self._task((*row[:3], "sent", row[4] + 1, *row[5:])) for row in rows]

    def pin(self, pins: Iterable[tuple[str, str]]) -> None:
        """Task and worker: it is sent to this one, and if it must be sent again, to the same."""
        with _Transaction(self._db):
            self._db.executemany("UPDATE tasks SET worker = ? WHERE id = ?", [(worker, it) for it, worker in pins])

    def sent(self) -> list[Task]:
        """Those that Dask should have. After a start: those that it had, be it still so or not."""
        return [self._task(row) for row in self._select("WHERE state = 'sent' ORDER BY number")]

    def end(self, outcomes: Iterable[Outcome]) -> None:
        """What has ended before stays as it was."""
        with _Transaction(self._db):
            self._db.executemany(
                "UPDATE tasks SET state = ?, worker = ?, error = ?, result = ?, ended = ?"
                " WHERE id = ? AND state = 'sent'",
                [
                    (
                        it.state.value,
                        it.worker,
                        it.error,
                        None if it.result is None else _dump(it.result),
                        self._clock() if it.state in ENDED else None,
                        it.id,
                    )
                    for it in outcomes
                ],
            )

    def cancel(self, task_id: str) -> bool:
        """Whether it had not ended yet."""
        with _Transaction(self._db):
            changed = self._db.execute(
                "UPDATE tasks SET state = 'cancelled', ended = ? WHERE id = ? AND state IN ('queued', 'sent')",
                (self._clock(), task_id),
            ).rowcount
        return bool(changed)

    def get(self, task_id: str) -> Task | None:
        """With its result."""
        rows = self._select("WHERE id = ?", task_id)
        if not rows:
            return None
        (result,) = self._db.execute("SELECT result FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return self._task(rows[0], result)

    def newest(
        self, *, user: str | None = None, state: State | None = None, tag: str | None = None, most: int = 100
    ) -> list[Task]:
        """user None: everybody's."""
        wanted: list[str] = ["1"]
        values: list[object] = []
        for column, value in (("user", user), ("state", state.value if state else None)):
            if value is not None:
                wanted.append(f"{column} = ?")
                values.append(value)
        if tag is not None:
            wanted.append("EXISTS (SELECT 1 FROM json_each(spec, '$.tags') WHERE value = ?)")
            values.append(tag)
        rows = self._select(f"WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?", *values, most)
        return [self._task(row) for row in rows]

    def counts(self) -> dict[State, int]:
        found = dict(self._db.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall())
        return {state: found.get(state.value, 0) for state in State}

    def forget(self, older: float) -> int:
        """Those that ended longer ago than so many seconds; how many they were."""
        with _Transaction(self._db):
            return self._db.execute("DELETE FROM tasks WHERE ended < ?", (self._clock() - older,)).rowcount

    def _select(self, which: str, *values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(f"SELECT {_COLUMNS} FROM tasks {which}", values).fetchall()  # noqa: S608 (our own words)

    @staticmethod
    def _task(row: Sequence[Any], result: str | None = None) -> Task:
        task_id, user, spec, state, attempt, submitted, ended, worker, error = row
        said = json.loads(spec)
        return Task(
            task_id,
            user,
            Spec(**{**said, "tags": tuple(said["tags"])}),
            State(state),
            attempt,
            submitted,
            ended,
            worker,
            error,
            None if result is None else json.loads(result),
        )


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
