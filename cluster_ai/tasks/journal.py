"""The journal of tasks: SQLite. What it has acknowledged is on the disk.

Its calls block, and are made from one thread at a time.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster_ai.errors import ConfigError
from cluster_ai.tasks.batches.file import File, insert
from cluster_ai.tasks.model import ENDED, Spec, State, Task

FORMAT = 4
_SCHEMA = """
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, key TEXT, spec TEXT NOT NULL, priority INTEGER NOT NULL,
    state TEXT NOT NULL, attempt INTEGER NOT NULL, submitted REAL NOT NULL, ended REAL,
    worker TEXT, error TEXT, result TEXT, number INTEGER NOT NULL, batch TEXT, line INTEGER, file TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX by_key ON tasks (user, key) WHERE key IS NOT NULL;
CREATE INDEX waiting ON tasks (priority DESC, number) WHERE state = 'queued';
CREATE INDEX by_state ON tasks (state, ended);
CREATE INDEX by_user ON tasks (user, number);
"""
_BATCHES = """
CREATE UNIQUE INDEX by_batch ON tasks (batch, line) WHERE batch IS NOT NULL;
CREATE INDEX of_batch ON tasks (batch, state) WHERE batch IS NOT NULL;
CREATE TABLE files (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL, number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX files_by_user ON files (user, number);
CREATE TABLE batches (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, key TEXT, endpoint TEXT NOT NULL, input TEXT NOT NULL,
    metadata TEXT NOT NULL, state TEXT NOT NULL, total INTEGER NOT NULL, times TEXT NOT NULL, expires REAL NOT NULL,
    output TEXT, errors TEXT, wrong TEXT NOT NULL, counts TEXT, number INTEGER NOT NULL, models TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX batches_by_key ON batches (user, key) WHERE key IS NOT NULL;
CREATE INDEX batches_by_user ON batches (user, number);
"""
# Who reads it keeps the last number: a journal that was begun anew must go on above those of the one before.
_SPENT = """
CREATE TABLE spent (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ended REAL NOT NULL, user TEXT NOT NULL, model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL
);
INSERT INTO sqlite_sequence VALUES ('spent', strftime('%s', 'now') * 100000);
"""
_FROM_1 = "ALTER TABLE tasks ADD COLUMN batch TEXT; ALTER TABLE tasks ADD COLUMN line INTEGER;"
_FROM_2 = "ALTER TABLE batches ADD COLUMN models TEXT;"
_FROM_3 = "ALTER TABLE tasks ADD COLUMN file TEXT;"
_COLUMNS = "id, user, spec, state, attempt, submitted, ended, worker, error, file"


@dataclass(frozen=True, slots=True)
class Spent:
    """Of an engine, in tokens, and seconds for which the task held one of its slots. model: canonical."""

    model: str
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; QUEUED: it came to nothing, and there is to be another."""

    id: str
    state: State
    worker: str | None = None
    error: str | None = None
    result: Any = None
    spent: Spent | None = None
    file: File | None = None  # with the result


class Journal:
    """path None: in memory. Raises sqlite3.Error where the file can't be used, ConfigError for a newer one."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.folder = path.parent if path is not None else None
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # an acknowledged task outlives a power cut
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            self._db.close()
            raise ConfigError(
                f"the journal of tasks is of format {found}; this version knows {FORMAT}",
                where=str(path or ""),
                remedy="apply the newer version again; or move the file away, and its tasks are forgotten",
            )
        steps = {
            0: (_SCHEMA, _BATCHES, _SPENT),
            1: (_FROM_1, _FROM_3, _BATCHES, _SPENT),
            2: (_FROM_2, _FROM_3, _SPENT),
            3: (_FROM_3,),
        }
        if found in steps:
            self._db.executescript(f"BEGIN; {' '.join(steps[found])} PRAGMA user_version = {FORMAT}; COMMIT;")
        (self._number,) = self._db.execute("SELECT coalesce(max(number), 0) FROM tasks").fetchone()

    def close(self) -> None:
        self._db.close()

    def transaction(self) -> Transaction:
        """For what is kept beside the tasks, in tables of its own (batches)."""
        return Transaction(self._db)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(query, values).fetchall()

    @property
    def now(self) -> float:
        return self._clock()

    def add(self, user: str, specs: Sequence[Spec], keys: Sequence[str | None]) -> list[str]:
        """All of them, or none. A key that this user gave before names the task of then, whatever is asked now."""
        ids: list[str] = []
        with Transaction(self._db):
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
                    "INSERT INTO tasks"
                    " VALUES (?, ?, ?, ?, ?, 'queued', 0, ?, NULL, NULL, NULL, NULL, ?, NULL, NULL, NULL)",
                    (ids[-1], user, key, _dump(asdict(spec)), spec.priority, self._clock(), self._number),
                )
        return ids

    def add_lines(self, user: str, batch: str, specs: Iterable[tuple[int, Spec]]) -> None:
        """A batch's, each with its line. Those that it has already stay as they are."""
        with Transaction(self._db):
            for line, spec in specs:
                self._number += 1
                self._db.execute(
                    "INSERT OR IGNORE INTO tasks"
                    " VALUES (?, ?, NULL, ?, ?, 'queued', 0, ?, NULL, NULL, NULL, NULL, ?, ?, ?, NULL)",
                    (
                        *(f"task-{secrets.token_hex(8)}", user, _dump(asdict(spec)), spec.priority),
                        *(self._clock(), self._number, batch, line),
                    ),
                )

    def take(self, most: int) -> list[Task]:
        """The next ones to run, which count as sent from now on: by priority, then by age."""
        with Transaction(self._db):
            rows = self._select("WHERE state = 'queued' ORDER BY priority DESC, number LIMIT ?", most)
            self._db.executemany(
                "UPDATE tasks SET state = 'sent', attempt = attempt + 1 WHERE id = ?", [(row[0],) for row in rows]
            )
        return [self._task((*row[:3], "sent", row[4] + 1, *row[5:])) for row in rows]

    def pin(self, pins: Iterable[tuple[str, str]]) -> set[str]:
        """Task and worker: it is sent to this one, and if it must be sent again, to the same. Who is in what is
        returned is not to be sent any more: it was cancelled meanwhile."""
        mark = "UPDATE tasks SET worker = ? WHERE id = ? AND state = 'sent'"
        with Transaction(self._db) as db:
            return {it for it, worker in pins if not db.execute(mark, (worker, it)).rowcount}

    def sent(self) -> Iterator[Task]:
        """Those that Dask should have. After a start: those that it had, be it still so or not.

        A look at each, while the journal isn't changed.
        """
        found = self._db.execute(f"SELECT {_COLUMNS} FROM tasks WHERE state = 'sent' ORDER BY number")  # noqa: S608
        return map(self._task, found)

    def some(self, ids: Sequence[str]) -> list[Task]:
        """Those of them that are sent, in this order."""
        marks = ", ".join("?" * len(ids))
        found = {row[0]: row for row in self._select(f"WHERE id IN ({marks}) AND state = 'sent'", *ids)}
        return [self._task(found[it]) for it in ids if it in found]

    def end(self, outcomes: Iterable[Outcome]) -> None:
        """What has ended before stays as it was."""
        outcomes = list(outcomes)
        with Transaction(self._db) as db:
            for it in outcomes:
                if it.file is not None and self._select("WHERE id = ? AND state = 'sent'", it.id):
                    insert(db, it.file)
            self._db.executemany(
                "INSERT INTO spent SELECT NULL, ?, user, ?, ?, ?, ? FROM tasks WHERE id = ? AND state = 'sent'",
                [
                    (self._clock(), it.spent.model, it.spent.prompt_tokens, it.spent.tokens, it.spent.seconds, it.id)
                    for it in outcomes
                    if it.spent is not None
                ],
            )
            self._db.executemany(
                "UPDATE tasks SET state = ?, worker = ?, error = ?, result = ?, file = ?, ended = ?"
                " WHERE id = ? AND state = 'sent'",
                [
                    (
                        it.state.value,
                        it.worker,
                        it.error,
                        None if it.result is None else _dump(it.result),
                        it.file.id if it.file is not None else None,
                        self._clock() if it.state in ENDED else None,
                        it.id,
                    )
                    for it in outcomes
                ],
            )

    def cancel(self, task_id: str) -> bool:
        """Whether it had not ended yet."""
        with Transaction(self._db):
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

    def of_batch(self, batch: str, after: int, most: int) -> list[tuple[int, Task]]:
        """Its lines after this one, in their order, with their results."""
        found = self._db.execute(
            f"SELECT {_COLUMNS}, result, line FROM tasks WHERE batch = ? AND line > ? ORDER BY line LIMIT ?",  # noqa: S608
            (batch, after, most),
        ).fetchall()
        return [(row[-1], self._task(row[:-2], row[-2])) for row in found]

    def newest(
        self, *, user: str | None = None, state: State | None = None, tag: str | None = None, most: int = 100
    ) -> list[Task]:
        """user None: everybody's. A batch's are found by their tag alone."""
        wanted: list[str] = ["batch IS NULL" if tag is None else "1"]
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
        with Transaction(self._db):
            self._db.execute("DELETE FROM spent WHERE ended < ?", (self._clock() - older,))  # no gateway ever asked
            return self._db.execute(
                "DELETE FROM tasks WHERE ended < ? AND (batch IS NULL OR batch NOT IN"
                " (SELECT id FROM batches WHERE state IN ('validating', 'in_progress', 'finalizing', 'cancelling')))",
                (self._clock() - older,),
            ).rowcount

    def _select(self, which: str, *values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(f"SELECT {_COLUMNS} FROM tasks {which}", values).fetchall()  # noqa: S608 (our own words)

    @staticmethod
    def _task(row: Sequence[Any], result: str | None = None) -> Task:
        task_id, user, spec, state, attempt, submitted, ended, worker, error, file = row
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
            file,
        )


class Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
