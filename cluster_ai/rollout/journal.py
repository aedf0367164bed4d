"""What rollouts did, step by step, kept before it is done: a controller that dies leaves behind how far it came.

SQLite on this machine (.cluster-ai/rollouts.sqlite); a copy of each record goes to the head host (lease.py), so that
another controller, such as the next CI job, reads it too.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from cluster_ai.errors import ConfigError, UsageError

State = Literal["running", "done", "failed", "returned", "paused", "interrupted", "undone"]
STATES: Mapping[State, str] = {
    "running": "goes on",
    "done": "every host is done",
    "failed": "a step failed; what could not be put back is told in its steps",
    "returned": "a step failed; what had been switched runs what it ran before",
    "paused": "waits for a person: resume, or undo",
    "interrupted": "its controller went away in the midst of it: resume, or undo",
    "undone": "taken back by a person",
}
OPEN: frozenset[State] = frozenset(("running", "paused", "interrupted"))  # may be resumed
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rollouts (
    id TEXT PRIMARY KEY, command TEXT NOT NULL, who TEXT NOT NULL, started REAL NOT NULL, ended REAL,
    state TEXT NOT NULL, reason TEXT NOT NULL, intent TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    n INTEGER PRIMARY KEY AUTOINCREMENT, rollout TEXT NOT NULL REFERENCES rollouts(id), at REAL NOT NULL,
    step TEXT NOT NULL, host TEXT NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS steps_of ON steps(rollout);
"""
_DAMAGED = "move it away: a new one is made, and the head host has a copy of each rollout"
_FORBIDDEN = "let the user who runs this read and write it, and its folder"
_UNUSABLE = {
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: "make room: df -h shows which disk is full",
    sqlite3.SQLITE_READONLY: _FORBIDDEN,
    sqlite3.SQLITE_CANTOPEN: _FORBIDDEN,
    sqlite3.SQLITE_IOERR: "see whether its disk is full (df -h) or broken (dmesg)",
    sqlite3.SQLITE_BUSY: "wait for the other run that has it",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One host's releases: what it ran before, and what it is to run. before: None for a first release."""

    before: str | None
    wanted: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What a rollout is to do; never changed afterwards."""

    cluster: str
    strategy: str
    config: str  # SHA-256 of cluster.yaml
    hosts: Mapping[str, Change]
    waves: tuple[Mapping[str, Any], ...]  # as in the plan's JSON
    text: str = ""  # that cluster.yaml; empty: not told, since nothing of it was applied

    def as_dict(self) -> dict[str, Any]:
        hosts = {name: {"before": it.before, "wanted": it.wanted} for name, it in self.hosts.items()}
        return {
            "cluster": self.cluster,
            "strategy": self.strategy,
            "config": self.config,
            "hosts": hosts,
            "waves": [dict(wave) for wave in self.waves],
            "text": self.text,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Intent:
        hosts = {name: Change(it["before"], it["wanted"]) for name, it in data["hosts"].items()}
        waves, text = tuple(data["waves"]), data.get("text", "")  # which older versions don't tell
        return cls(data["cluster"], data["strategy"], data["config"], hosts, waves, text)


@dataclass(frozen=True, slots=True)
class Step:
    at: float  # seconds since 1970
    step: str
    host: str  # empty: the rollout's own
    status: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"at": self.at, "step": self.step, "host": self.host, "status": self.status, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Rollout:
    """A record of the journal."""

    id: str
    command: str
    who: str
    started: float  # seconds since 1970
    ended: float | None
    state: State
    reason: str
    intent: Intent
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def at(self) -> str:
        """The last thing that it did, in words."""
        if not self.steps:
            return "nothing yet"
        last = self.steps[-1]
        return " ".join(word for word in (last.host and f"{last.host}:", last.step, last.status) if word)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "command": self.command,
            "who": self.who,
            "started": self.started,
            "ended": self.ended,
            "state": self.state,
            "reason": self.reason,
            "intent": self.intent.as_dict(),
            "steps": [it.as_dict() for it in self.steps],
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Rollout:
        """Of as_dict. Raises KeyError or TypeError where it isn't one."""
        return cls(
            data["id"],
            data["command"],
            data["who"],
            data["started"],
            data["ended"],
            data["state"],
            data["reason"],
            Intent.read(data["intent"]),
            tuple(Step(it["at"], it["step"], it["host"], it["status"], it["detail"]) for it in data["steps"]),
        )


def new_id(now: float) -> str:
    """Sorts by time, and no two controllers make the same."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(2)


class Journal:
    """Every method is one transaction, on the disk when it returns. For several threads: each call connects anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Raises ConfigError where the file can't be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                with connection:
                    connection.executescript(_SCHEMA)
                    yield connection
        except sqlite3.DatabaseError as error:
            remedy = _UNUSABLE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # the lowest byte is the kind
            if remedy is None:
                raise
            raise ConfigError(
                f"the journal of rollouts can't be used: {error}", where=str(self._path), remedy=remedy
            ) from error

    def begin(self, command: str, who: str, intent: Intent) -> str:
        """Returns the new rollout's id."""
        now = time.time()
        name = new_id(now)
        with self._open() as db:
            row = (name, command, who, now, None, "running", "", json.dumps(intent.as_dict()))
            db.execute("INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return name

    def step(self, rollout: str, step: str, host: str, status: str, detail: str = "") -> None:
        with self._open() as db:
            row = (rollout, time.time(), step, host, status, detail)
            db.execute("INSERT INTO steps (rollout, at, step, host, status, detail) VALUES (?, ?, ?, ?, ?, ?)", row)

    def set_state(self, rollout: str, state: State, reason: str = "") -> None:
        ended = None if state in OPEN else time.time()
        with self._open() as db:
            db.execute(
                "UPDATE rollouts SET state = ?, reason = ?, ended = ? WHERE id = ?", (state, reason, ended, rollout)
            )

    def interrupt_running(self, but: str = "") -> tuple[str, ...]:
        """Those that say that they go on: for one who holds the lock, and so knows that none does."""
        with self._open() as db:
            found = [
                row[0] for row in db.execute("SELECT id FROM rollouts WHERE state = 'running' AND id != ?", (but,))
            ]
            db.executemany("UPDATE rollouts SET state = 'interrupted' WHERE id = ?", [(name,) for name in found])
        return tuple(found)

    def take(self, other: Rollout) -> None:
        """Put in a record that another controller wrote; the one that tells of more stays."""
        with self._open() as db:
            mine = db.execute("SELECT COUNT(*) FROM steps WHERE rollout = ?", (other.id,)).fetchone()[0]
            known = db.execute("SELECT ended FROM rollouts WHERE id = ?", (other.id,)).fetchone()
            if known and (mine, known[0] is not None) > (len(other.steps), other.ended is not None):
                return
            db.execute("DELETE FROM steps WHERE rollout = ?", (other.id,))
            row = (other.id, other.command, other.who, other.started, other.ended, other.state, other.reason)
            intent = json.dumps(other.intent.as_dict())
            db.execute("INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, intent))
            db.executemany(
                "INSERT INTO steps (rollout, at, step, host, status, detail) VALUES (?, ?, ?, ?, ?, ?)",
                [(other.id, it.at, it.step, it.host, it.status, it.detail) for it in other.steps],
            )

    def all(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The newest first."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM rollouts ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
            return tuple(_read(db, row) for row in rows)

    def get(self, name: str | None = None) -> Rollout:
        """By its id, or how that begins; None: the newest. Raises UsageError where there is none, or several."""
        with self._open() as db:
            query = "SELECT * FROM rollouts WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 2"
            rows = db.execute(query, (name or "", f"{name}~" if name else "~")).fetchall()
            if not rows:
                what = f"there is no rollout {name}" if name else "there has been no rollout"
                raise UsageError(what, where=str(self._path), remedy="cluster-ai rollouts list")
            if name and len(rows) > 1 and rows[0][0] != name:
                raise UsageError(f"several rollouts begin with {name}", remedy="give more of its id")
            return _read(db, rows[0])


def _read(db: sqlite3.Connection, row: Sequence[Any]) -> Rollout:
    query = "SELECT at, step, host, status, detail FROM steps WHERE rollout = ? ORDER BY n"
    steps = tuple(Step(*step) for step in db.execute(query, (row[0],)))
    name, command, who, started, ended, state, reason, intent = row
    return Rollout(
        name, command, who, started, ended, cast("State", state), reason, Intent.read(json.loads(intent)), steps
    )
