"""Join tokens: short, of one use, for a limited time. They are kept in .cluster-ai/join-tokens.sqlite.

A token is `id-secret-cluster`: its id, which is sent in the open; a secret of 100 bits, which never is; and the
beginning of the fingerprint of the cluster's CA, so that clusters on one network don't take each other's machines.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import secrets
import sqlite3
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cluster_ai.config.model import Config
from cluster_ai.errors import ConfigError, UsageError

LIFETIME = 3600.0  # seconds
KEPT = 30 * 86400.0  # seconds that a token which is of no use any more is still shown
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_TABLE = """CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, secret TEXT NOT NULL, cluster TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,
    used REAL, used_by TEXT NOT NULL DEFAULT '', revoked REAL)"""


@dataclass(frozen=True, slots=True)
class Token:
    id: str
    secret: str
    cluster: str
    created: float
    expires: float
    used: float | None
    used_by: str  # the host key's fingerprint of the machine that joined by it
    revoked: float | None

    @property
    def text(self) -> str:
        return f"{self.id}-{self.secret}-{self.cluster}"

    def state(self, now: float) -> str:
        if self.used is not None:
            return "used"
        if self.revoked is not None:
            return "revoked"
        return "valid" if now < self.expires else "expired"


def cluster_id(config: Config) -> str:
    """Of a cluster: 16 hexadecimal digits of the SHA-256 of its CA's certificate, which is made where there is none."""
    from cluster_ai.security.credentials import load_or_create

    public = config.path.resolve().parent / ".cluster-ai" / "ca.pem"
    pem = public.read_text() if public.exists() else load_or_create(config).trust.decode()
    first = pem.partition("-----END CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[0] + first[1])).hexdigest()[:16]


class Tokens:
    def __init__(self, folder: Path) -> None:
        """folder: where cluster.yaml is."""
        self.path = folder / ".cluster-ai" / "join-tokens.sqlite"

    def create(self, cluster: str, lifetime: float = LIFETIME) -> Token:
        now = time.time()
        made = Token(_random(6), _random(20), cluster, now, now + lifetime, None, "", None)
        with self._open() as database:
            database.execute("DELETE FROM tokens WHERE expires < ?", (now - KEPT,))
            database.execute(
                "INSERT INTO tokens (id, secret, cluster, created, expires) VALUES (?, ?, ?, ?, ?)",
                (made.id, made.secret, cluster, now, made.expires),
            )
        return made

    def all(self) -> list[Token]:
        if not self.path.exists():
            return []
        with self._open() as database:
            rows = database.execute(
                "SELECT id, secret, cluster, created, expires, used, used_by, revoked FROM tokens ORDER BY created"
            )
            return [Token(*row) for row in rows]

    def revoke(self, token: str) -> None:
        """token: its id, or all of it."""
        known = token.partition("-")[0]
        with self._open() as database:
            done = database.execute(
                "UPDATE tokens SET revoked = ? WHERE id = ? AND used IS NULL AND revoked IS NULL", (time.time(), known)
            )
        if done.rowcount == 0:
            raise UsageError(
                f"there is no join token {known!r} that could be revoked", remedy="cluster-ai join-token list"
            )

    def use(self, token: str, by: str) -> bool:
        """Take a token for the machine with this host key. False: it was taken, has expired, or was revoked.

        The machine that took it may be answered again, as long as it hasn't been added.
        """
        now = time.time()
        with self._open() as database:
            done = database.execute(
                "UPDATE tokens SET used = ?, used_by = ? WHERE id = ? AND expires > ? AND revoked IS NULL"
                " AND (used IS NULL OR used_by = ?)",
                (now, by, token, now, by),
            )
        return done.rowcount == 1

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(exist_ok=True)
            self.path.touch(0o600)
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.execute(_TABLE)
                yield database
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the join tokens can't be kept: {error}", where=str(self.path)) from error


def script() -> str:
    """What runs on the bare machine, as it can be carried there."""
    return resources.files("cluster_ai.discovery").joinpath("join.py").read_text("utf-8")


def line(token: str) -> str:
    """One line for a shell, with the whole script in it, so that it needs neither a server nor a way out."""
    tree = ast.parse(script())
    for node in ast.walk(tree):  # what only people and checkers read would make the line a fifth longer
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    packed = base64.b64encode(zlib.compress(ast.unparse(tree).encode(), 9)).decode()
    return f"python3 -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{packed}\")))' {token}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
