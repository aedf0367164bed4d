"""Users, their logins and the signing keys: a file of SQLite that two gateways share during a hand-over.

Read whole, and anew only when someone changed it: asking SQLite for its version costs some microseconds, so that what
one gateway revokes is refused by the other with the next request.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster_ai.gateway.admission.store import opened, transaction
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.signing import SigningKey, generate, plan

FILE = "identity.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, password TEXT NOT NULL, role TEXT NOT NULL, priority INTEGER NOT NULL,
    limits TEXT NOT NULL, models TEXT, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS logins (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, refresh BLOB NOT NULL, previous BLOB NOT NULL, refreshed REAL NOT NULL,
    begun REAL NOT NULL, ends REAL NOT NULL, address TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS subjects (name TEXT PRIMARY KEY, subject TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS signing_keys (kid TEXT PRIMARY KEY, private BLOB NOT NULL, begins REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Account:
    """One who logs in; created: seconds since 1970. subject: whom an OpenID provider vouches for; "": nobody does, and
    there is a password.
    """

    user: User
    password: str
    created: float
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """refresh: digest of what a new token is got with; previous: of the one before it."""

    id: str
    name: str
    refresh: bytes
    previous: bytes
    refreshed: float
    begun: float
    ends: float
    address: str


class Store:
    """Blocks for a moment only. Every change raises Refusal (503) where the disk doesn't take it."""

    def __init__(self, directory: Path | None, note: Callable[[str], None] = lambda text: None) -> None:
        self._connection = opened(directory, FILE, _SCHEMA, note)
        self._note = note
        self._version = -1
        self._accounts: dict[str, Account] = {}
        self._logins: dict[str, Login] = {}
        self._keys: tuple[SigningKey, ...] = ()

    def account(self, name: str) -> Account | None:
        self.refresh()
        return self._accounts.get(name)

    def account_of(self, subject: str) -> Account | None:
        self.refresh()
        return next((it for it in self._accounts.values() if it.subject == subject), None)

    def accounts(self) -> list[Account]:
        self.refresh()
        return sorted(self._accounts.values(), key=lambda it: it.user.name)

    def login(self, login_id: str) -> Login | None:
        self.refresh()
        return self._logins.get(login_id)

    def login_of(self, refresh: bytes) -> Login | None:
        """By the digest of the token that it is refreshed with, or was."""
        self.refresh()
        return next((it for it in self._logins.values() if refresh in (it.refresh, it.previous)), None)

    def logins(self, name: str) -> int:
        self.refresh()
        return sum(it.name == name for it in self._logins.values())

    def keys(self) -> tuple[SigningKey, ...]:
        self.refresh()
        return self._keys

    def add(self, account: Account) -> None:
        """Raises Refusal (409)."""
        try:
            with self._changing():
                self._connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?)", _row(account))
                if account.subject:
                    named = (account.user.name, account.subject)
                    self._connection.execute("INSERT INTO subjects VALUES (?, ?)", named)
        except sqlite3.IntegrityError as e:
            raise Refusal(409, "name_taken", f"there is a user named '{account.user.name}' already") from e

    def put(self, account: Account) -> None:
        """In place of the one of that name. Raises Refusal (404) where there is none."""
        _, *values = _row(account)
        with self._changing():
            found = self._connection.execute(
                "UPDATE users SET password = ?, role = ?, priority = ?, limits = ?, models = ?, created = ?"
                " WHERE name = ?",
                (*values, account.user.name),
            ).rowcount
        if not found:
            raise no_user(account.user.name)

    def remove(self, name: str) -> None:
        """With all logins. Raises Refusal (404)."""
        with self._changing():
            found = self._connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount
            self._connection.execute("DELETE FROM logins WHERE name = ?", (name,))
            self._connection.execute("DELETE FROM subjects WHERE name = ?", (name,))
        if not found:
            raise no_user(name)

    def begin(self, login: Login, now: float) -> None:
        """Forgets those that have ended."""
        with self._changing():
            self._connection.execute("DELETE FROM logins WHERE ends <= ?", (now,))
            row = (
                login.id,
                login.name,
                login.refresh,
                login.previous,
                login.refreshed,
                login.begun,
                login.ends,
                login.address,
            )
            self._connection.execute("INSERT INTO logins VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def renew(self, login: Login, refresh: bytes, now: float, ends: float) -> bool:
        """False: it was renewed or ended meanwhile."""
        with self._changing():
            changed = self._connection.execute(
                "UPDATE logins SET refresh = ?, previous = ?, refreshed = ?, ends = ? WHERE id = ? AND refresh = ?",
                (refresh, login.refresh, now, ends, login.id, login.refresh),
            ).rowcount
        return bool(changed)

    def end(self, login_id: str) -> None:
        with self._changing():
            self._connection.execute("DELETE FROM logins WHERE id = ?", (login_id,))

    def end_all(self, name: str) -> int:
        with self._changing():
            return self._connection.execute("DELETE FROM logins WHERE name = ?", (name,)).rowcount

    def rotate(self, now: float) -> None:
        """Makes and drops signing keys as they are due."""
        due = plan(self.keys(), now)
        if due.make is None and not due.drop:
            return
        with self._changing():
            due = plan(self._read_keys(), now)  # the other gateway may have done it
            if due.make is not None:
                key = generate(due.make)
                row = (key.kid, key.private, key.begins)
                self._connection.execute("INSERT INTO signing_keys VALUES (?, ?, ?)", row)
            for kid in due.drop:
                self._connection.execute("DELETE FROM signing_keys WHERE kid = ?", (kid,))

    def close(self) -> None:
        self._connection.close()

    def refresh(self) -> None:
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            rows = self._connection.execute(
                "SELECT users.*, ifnull(subject, '') FROM users LEFT JOIN subjects USING (name)"
            ).fetchall()
            logins = self._connection.execute("SELECT * FROM logins").fetchall()
            self._keys = self._read_keys()
        except sqlite3.Error as e:  # who was logged in a moment ago still is
            self._note(f"users and logins can't be read: {e}")
            return
        self._accounts = {row[0]: _account(*row) for row in rows}
        self._logins = {row[0]: Login(*row) for row in logins}
        self._version = version

    def _read_keys(self) -> tuple[SigningKey, ...]:
        rows = self._connection.execute("SELECT kid, private, begins FROM signing_keys ORDER BY begins")
        return tuple(SigningKey(*row) for row in rows)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with transaction(self._connection):
                yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as e:
            text = f"the gateway's storage doesn't work: {e}"
            raise Refusal(503, "storage_failed", text, [(b"retry-after", b"5")]) from e
        finally:
            self._version = -1


def no_user(name: str) -> Refusal:
    return Refusal(404, "user_not_found", f"there is no user named '{name}'")


def _row(account: Account) -> tuple[object, ...]:
    user = account.user
    models = None if user.models is None else json.dumps(sorted(user.models))
    limits = json.dumps(asdict(user.limits or Limits()))
    return (user.name, account.password, user.role, user.priority, limits, models, account.created)


def _account(
    name: str, password: str, role: str, priority: int, limits: str, models: str | None, created: float, subject: str
) -> Account:
    allowed = None if models is None else frozenset(json.loads(models))
    user = User(name, priority, limits=Limits(**json.loads(limits)), models=allowed)
    return Account(replace(user, role=role), password, created, subject)  # type: ignore[arg-type]  # of ROLES, as it was written
