"""What each user has used, by day and model: counted in memory, written every few seconds.

An orderly end loses nothing. A killed gateway loses what came in since the last writing, INTERVAL seconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from cluster_ai.gateway.admission.store import opened, transaction
from cluster_ai.gateway.api.http import Refusal

FILE = "usage.sqlite"
INTERVAL = 5.0  # seconds
_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL, user TEXT NOT NULL, model TEXT NOT NULL, requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (day, user, model)
);
CREATE TABLE IF NOT EXISTS settled (number INTEGER NOT NULL);
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, user, model) DO UPDATE SET
    requests = requests + excluded.requests, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    tokens = tokens + excluded.tokens, seconds = seconds + excluded.seconds
"""


@dataclass(slots=True)
class Used:
    """seconds: for which requests held a slot of a model."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, other: Used) -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.tokens += other.tokens
        self.seconds += other.seconds


@dataclass(frozen=True, slots=True)
class Line:
    """day: of UTC."""

    day: str
    user: str
    model: str
    used: Used


Key = tuple[str, str, str]  # day, user, model


class Account:
    """`async with` keeps it written; directory None: it is kept in memory only."""

    def __init__(
        self,
        directory: Path | None,
        note: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = opened(directory, FILE, _SCHEMA, note)
        self._note, self._clock = note, clock
        self._lock = threading.Lock()  # of the connection
        self._pending: dict[Key, Used] = {}
        self._unwritten: dict[Key, Used] = {}  # guarded by the lock too
        self._day, self._day_ends = "", 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Account:
        self._task = asyncio.create_task(self._keep_writing(), name="usage")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._write, self._taken())
        self._connection.close()

    def add(self, user: str, model: str, used: Used) -> None:
        now = self._clock()
        if now >= self._day_ends:
            self._day = day_of(now)
            self._day_ends = (now // 86400 + 1) * 86400
        key = (self._day, user, model)
        known = self._pending.get(key)
        if known is None:
            self._pending[key] = used
        else:
            known.add(used)

    def settled(self) -> int:
        """Up to which number of the task manager's list it has what tasks used. Blocks; raises sqlite3.Error."""
        with self._lock:
            return int(self._connection.execute("SELECT coalesce(max(number), 0) FROM settled").fetchone()[0])

    def settle(self, before: int, number: int, sums: Mapping[Key, Used]) -> None:
        """What tasks used up to this number, unless another gateway has it already. Blocks; raises sqlite3.Error."""
        with self._lock, transaction(self._connection):
            found = self._connection.execute("SELECT coalesce(max(number), 0) FROM settled").fetchone()[0]
            if found == before:
                self._connection.executemany(_ADD, _rows(sums))
                self._connection.execute("DELETE FROM settled")
                self._connection.execute("INSERT INTO settled VALUES (?)", (number,))

    async def read(self, first: date, last: date, user: str | None) -> list[Line]:
        """Of those days, of one user or of all. Raises Refusal (503)."""
        return await asyncio.to_thread(self._read, self._taken(), first.isoformat(), last.isoformat(), user)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            if self._pending:
                await asyncio.shield(asyncio.to_thread(self._write, self._taken()))

    def _taken(self) -> dict[Key, Used]:
        taken, self._pending = self._pending, {}
        return taken

    def _write(self, taken: dict[Key, Used]) -> None:
        """In a thread. What can't be written now is written with what follows."""
        with self._lock:
            for key, used in taken.items():
                self._unwritten.setdefault(key, Used()).add(used)
            if not self._unwritten:
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_ADD, _rows(self._unwritten))
                self._connection.execute("COMMIT")
                self._unwritten = {}
            except sqlite3.Error as e:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                self._note(f"usage can't be written, and is kept in memory until it can: {e}")

    def _read(self, taken: dict[Key, Used], first: str, last: str, user: str | None) -> list[Line]:
        self._write(taken)
        whose = "" if user is None else " AND user = ?"
        asked = f"SELECT * FROM usage WHERE day BETWEEN ? AND ?{whose} ORDER BY day, user, model"  # noqa: S608 (ours)
        with self._lock:
            try:
                found = self._connection.execute(asked, (first, last, *([] if user is None else [user]))).fetchall()
            except sqlite3.Error as e:
                text = f"the gateway's storage doesn't work: {e}"
                raise Refusal(503, "storage_failed", text, [(b"retry-after", b"5")]) from e
        return [Line(day, who, model, Used(*numbers)) for day, who, model, *numbers in found]


def day_of(seconds: float) -> str:
    """seconds: since 1970."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _rows(sums: Mapping[Key, Used]) -> list[tuple[object, ...]]:
    return [(*key, used.requests, used.prompt_tokens, used.tokens, used.seconds) for key, used in sums.items()]
