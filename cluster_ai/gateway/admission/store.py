"""A file of SQLite that two gateways may have open at once, for some minutes of a hand-over."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 5.0  # seconds for the other gateway to finish what it writes


def opened(
    directory: Path | None, name: str, schema: str, note: Callable[[str], None] = lambda text: None
) -> sqlite3.Connection:
    """In autocommit; for one thread at a time. directory None: in memory only.

    A file that SQLite can't read is put aside, and a new one begun: the gateway must serve whatever its disk did.
    """
    if directory is None:
        return _connect(":memory:", schema)
    path = directory / name
    try:
        return _connect(path, schema)
    except sqlite3.OperationalError:
        raise  # no place, no right, or too long a wait: what is in it is good
    except sqlite3.DatabaseError as e:
        aside = path.with_name(f"{name}.unreadable-{int(time.time())}")
        note(f"{path} can't be read ({e}); it is put aside as {aside.name}, and a new one begun")
        path.rename(aside)
        for end in ("-wal", "-shm"):
            path.with_name(name + end).unlink(missing_ok=True)
        return _connect(path, schema)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, and nobody else's between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect(path: Path | str, schema: str) -> sqlite3.Connection:
    if isinstance(path, Path):  # who asks how much is nobody else's to read
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(schema)
    except BaseException:
        connection.close()
        raise
    return connection
