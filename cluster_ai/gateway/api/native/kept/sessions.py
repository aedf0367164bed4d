"""Conversations, each its user's own. Only whole turns are kept: what was asked, with the answer to it."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.kept.database import Database

PER_OWNER = 1000
SIZE = 4 * 1024 * 1024  # characters that one session may hold
_TITLE = 80  # characters of the first question that become the title


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str
    at: float = 0.0
    worker: str | None = None  # who answered


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    title: str
    model: str | None
    system: str | None
    created: float
    used: float
    turns: int


class Sessions:
    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def create(self, owner: str, *, title: str, model: str | None, system: str | None) -> Session:
        """Raises Refusal (409) where the owner has too many."""
        now = self._clock()
        made = Session(secrets.token_hex(12), title, model, system, now, now, 0)
        with self._database.transaction() as db:
            (count,) = db.execute("SELECT count(*) FROM sessions WHERE owner = ?", (owner,)).fetchone()
            if count >= PER_OWNER:
                raise Refusal(409, "too_many_sessions", f"you have {count} sessions: delete some first")
            db.execute(
                "INSERT INTO sessions (id, owner, title, model, system, created, used) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (made.id, owner, title, model, system, now, now),
            )
        return made

    def list(self, owner: str) -> tuple[Session, ...]:
        """The last used first."""
        with self._database.transaction() as db:
            rows = db.execute("SELECT * FROM sessions WHERE owner = ? ORDER BY used DESC, id", (owner,)).fetchall()
        return tuple(_session(row) for row in rows)

    def get(self, owner: str, name: str) -> tuple[Session, tuple[Message, ...]]:
        """Raises Refusal (404), for another's too."""
        with self._database.transaction() as db:
            row = _row(db, owner, name)
            said = db.execute("SELECT role, content, at, worker FROM messages WHERE session = ? ORDER BY n", (name,))
            return _session(row), tuple(Message(*it) for it in said)

    def delete(self, owner: str, name: str) -> None:
        """Raises Refusal (404)."""
        with self._database.transaction() as db:
            _row(db, owner, name)
            db.execute("DELETE FROM sessions WHERE id = ?", (name,))

    def append(self, owner: str, name: str, turn: int, messages: Sequence[Message]) -> int:
        """Keeps turn number `turn`, of which `messages` are all; returns how many there are then.

        Raises Refusal: 404 when it was deleted meanwhile, 409 when another turn came first, or it would be too large.
        """
        now = self._clock()
        with self._database.transaction() as db:
            row = _row(db, owner, name)
            if row["turns"] + 1 != turn:
                raise Refusal(409, "session_moved_on", "another turn of this session was answered meanwhile")
            size = row["size"] + sum(len(m.content) for m in messages)
            if size > SIZE:
                raise Refusal(409, "session_full", f"a session holds {SIZE} characters: begin a new one")
            (before,) = db.execute("SELECT count(*) FROM messages WHERE session = ?", (name,)).fetchone()
            db.executemany(
                "INSERT INTO messages (session, n, turn, role, content, at, worker) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(name, before + i, turn, m.role, m.content, now, m.worker) for i, m in enumerate(messages)],
            )
            asked = next((m.content for m in messages if m.role == "user"), "")
            title = row["title"] or " ".join(asked.split())[:_TITLE]
            db.execute(
                "UPDATE sessions SET turns = ?, size = ?, used = ?, title = ? WHERE id = ?",
                (turn, size, now, title, name),
            )
        return turn

    def forget(self, unused_for: float) -> int:
        """Deletes those that weren't used for so many seconds; returns how many."""
        with self._database.transaction() as db:
            return db.execute("DELETE FROM sessions WHERE used < ?", (self._clock() - unused_for,)).rowcount


def _row(db: sqlite3.Connection, owner: str, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT * FROM sessions WHERE id = ? AND owner = ?", (name, owner)).fetchone()
    if row is None:
        raise Refusal(404, "session_not_found", f"you have no session '{name}'")
    return row


def _session(row: sqlite3.Row) -> Session:
    return Session(*(row[name] for name in ("id", "title", "model", "system", "created", "used", "turns")))
