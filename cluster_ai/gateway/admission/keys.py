"""Named API keys: who has one is a user.

A key is 256 random bits, so its SHA-256 tells nobody anything: there is no shorter list of keys to try than all of
them, which is what slow, salted hashes are for with passwords. So a key is found by its digest, at no cost to speak of.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster_ai.gateway.admission.store import opened, transaction
from cluster_ai.gateway.admission.users import RESERVED, Limits, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.roles import Role

FILE = "keys.sqlite"
PREFIX = b"cai-"  # so that people, and scanners of repositories, know one when they see it
_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, priority INTEGER NOT NULL, admin INTEGER NOT NULL,
    limits TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS grants (digest BLOB PRIMARY KEY, role TEXT NOT NULL, models TEXT, ends REAL);
"""  # grants stand apart: a gateway of an older release, which two share a hand-over with, reads and writes keys alone
_READ = "SELECT keys.*, role, models, ends FROM keys LEFT JOIN grants USING (digest)"


@dataclass(frozen=True, slots=True)
class Key:
    """All that is known of one; not the key itself."""

    user: User
    created: float  # seconds since 1970
    ends: float | None = None  # likewise; None: when it is revoked


class Keys:
    """Blocks for a moment only: the table is small, and read anew only when someone changed it.

    Another gateway may change it too, so each look asks SQLite for its version, which costs some microseconds.
    """

    def __init__(self, directory: Path | None, note: Callable[[str], None] = lambda text: None) -> None:
        self._connection = opened(directory, FILE, _SCHEMA, note)
        self._note = note
        self._version = -1
        self._keys: dict[bytes, Key] = {}

    def user(self, secret: bytes) -> User | None:
        """Whose key it is; None: nobody's."""
        if not secret.startswith(PREFIX):
            return None
        self._refresh()
        found = self._keys.get(hashlib.sha256(secret).digest())
        if found is None or (found.ends is not None and found.ends <= time.time()):
            return None
        return found.user

    def list(self) -> list[Key]:
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.user.name)

    def create(self, user: User, ends: float | None = None) -> tuple[str, Key]:
        """The key, which is told this once, and what is kept of it. Raises Refusal (409, 503)."""
        if user.name in RESERVED:
            raise Refusal(409, "name_taken", f"'{user.name}' is a name of the gateway's own; choose another")
        secret = PREFIX + secrets.token_urlsafe(32).encode()
        key, digest = Key(user, time.time(), ends), hashlib.sha256(secret).digest()
        models = None if user.models is None else json.dumps(sorted(user.models))
        row = (
            user.name,
            digest,
            user.priority,
            user.role == "admin",
            json.dumps(asdict(user.limits or Limits())),
            key.created,
        )
        try:
            with transaction(self._connection):
                self._connection.execute("INSERT INTO grants VALUES (?, ?, ?, ?)", (digest, user.role, models, ends))
                self._connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as e:
            text = f"there is a key named '{user.name}' already; revoke it first, or choose another name"
            raise Refusal(409, "name_taken", text) from e
        except sqlite3.Error as e:
            raise _failed(e) from e
        self._version = -1
        return secret.decode(), key

    def revoke(self, name: str) -> None:
        """From now on nobody's. Raises Refusal (404, 503)."""
        try:
            with transaction(self._connection):
                found = self._connection.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount
                self._connection.execute("DELETE FROM grants WHERE digest NOT IN (SELECT digest FROM keys)")
        except sqlite3.Error as e:
            raise _failed(e) from e
        self._version = -1
        if not found:
            raise Refusal(404, "key_not_found", f"there is no key named '{name}'")

    def close(self) -> None:
        self._connection.close()

    def _refresh(self) -> None:
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            self._keys = {row[1]: _key(*row) for row in self._connection.execute(_READ)}
            self._version = version
        except sqlite3.Error as e:  # who had a key a moment ago still has one
            self._note(f"the keys can't be read: {e}")


def _key(
    name: str,
    digest: bytes,
    priority: int,
    admin: int,
    limits: str,
    created: float,
    role: Role | None,
    models: str | None,
    ends: float | None,
) -> Key:
    """role None: an older release made it."""
    allowed = None if models is None else frozenset(json.loads(models))
    granted: Role = role or ("admin" if admin else "user")
    return Key(User(name, priority, granted, limits=Limits(**json.loads(limits)), models=allowed), created, ends)


def _failed(error: sqlite3.Error) -> Refusal:
    return Refusal(503, "storage_failed", f"the gateway's storage doesn't work: {error}", [(b"retry-after", b"5")])
