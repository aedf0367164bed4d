"""One SQLite file for all of it. For some minutes of an update two gateways have it open."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster_ai.gateway.api.http import Refusal

FILE = "native.sqlite"
_WAIT = 5.0  # seconds for the other gateway to finish what it writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, model TEXT, system TEXT,
    created REAL NOT NULL, used REAL NOT NULL, turns INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS sessions_of ON sessions(owner, used);
CREATE TABLE IF NOT EXISTS messages (
    session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE, n INTEGER NOT NULL, turn INTEGER NOT NULL,
    role TEXT NOT NULL, content TEXT NOT NULL, at REAL NOT NULL, worker TEXT, PRIMARY KEY (session, n)
);
CREATE TABLE IF NOT EXISTS templates (
    owner TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, system TEXT, text TEXT NOT NULL,
    changed REAL NOT NULL, PRIMARY KEY (owner, name)
);
CREATE TABLE IF NOT EXISTS workers (
    name TEXT PRIMARY KEY, url TEXT NOT NULL, slots INTEGER NOT NULL, gpu INTEGER NOT NULL, registered REAL NOT NULL,
    registered_by TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS contexts (model TEXT PRIMARY KEY, context INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stand_ins (
    model TEXT NOT NULL, worker TEXT NOT NULL, instead_of TEXT NOT NULL, processor TEXT NOT NULL,
    fetched INTEGER NOT NULL, since REAL NOT NULL, PRIMARY KEY (model, worker)
);
CREATE TABLE IF NOT EXISTS standby (worker TEXT PRIMARY KEY, asleep INTEGER NOT NULL, since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    at REAL NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, before INTEGER NOT NULL, after INTEGER NOT NULL,
    reason TEXT NOT NULL, dry_run INTEGER NOT NULL, PRIMARY KEY (at, kind, name)
);
"""


class Database:
    """directory None: in memory only. Its methods block; ask from a thread.

    A file that SQLite can't read is put aside, and a new one begun: the gateway must serve whatever its disk did.
    """

    def __init__(self, directory: Path | None, note: Callable[[str], None] = lambda text: None) -> None:
        self._lock = threading.Lock()
        self._path = directory / FILE if directory is not None else None
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as e:
            assert self._path is not None
            beside = self._path.with_name(f"{FILE}.unreadable-{int(time.time())}")
            note(f"{self._path} can't be read ({e}); it is put aside as {beside.name}, and a new one begun")
            self._path.rename(beside)
            for end in ("-wal", "-shm"):
                self._path.with_name(FILE + end).unlink(missing_ok=True)
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:  # conversations: nobody else's to read
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self._path or ":memory:", timeout=_WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what a user deleted is gone
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises Refusal (503) where the disk doesn't take it."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as e:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise Refusal(503, "storage_failed", f"the gateway's storage doesn't work: {e}") from e

    def close(self) -> None:
        with self._lock:
            self._connection.close()
