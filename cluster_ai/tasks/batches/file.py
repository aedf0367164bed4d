"""A file that the task manager keeps: an upload, what came out of a batch, or of a task."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

COLUMNS = "id, user, name, purpose, bytes, sha256, created, expires"


@dataclass(frozen=True, slots=True)
class File:
    id: str
    user: str
    name: str
    purpose: str
    bytes: int
    sha256: str
    created: float
    expires: float

    def public(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created),
            "expires_at": int(self.expires),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "sha256": self.sha256,
        }


def insert(db: sqlite3.Connection, file: File) -> None:
    db.execute(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(number), 0) + 1 FROM files))",
        (file.id, file.user, file.name, file.purpose, file.bytes, file.sha256, file.created, file.expires),
    )
