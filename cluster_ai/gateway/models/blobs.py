"""Files that clients upload for models to be made of, on the gateway's disk until the workers have them.

When a file comes, nobody has said yet which model it is for, so it can't go to its workers at once. It is written
as it comes, never held in memory, and counts only when its hash is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from cluster_ai.gateway.api.http import Refusal

PIECE = 1024 * 1024  # bytes that go to the disk, or come from it, at once
KEPT = 24 * 3600.0  # seconds after which a file that no model was made of is removed
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_PART = ".part"


def digest_of(text: str) -> str:
    """The one spelling of it: sha256:<hex>. Raises Refusal (400) as Ollama does."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise Refusal(400, "invalid_digest", "invalid digest format")
    return f"sha256:{found[1].lower()}"


class Blobs:
    """Digests are such as digest_of gives. folder: where they are; None: one that is gone after close."""

    def __init__(self, folder: Path | None) -> None:
        self._given = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="cluster-ai-blobs-")
        return Path(self._temporary.name)

    def path(self, digest: str) -> Path | None:
        """The whole file; None: it isn't here."""
        if self._given is None and self._temporary is None:
            return None
        path = self._path(digest)
        return path if path.is_file() else None

    async def store(self, digest: str, pieces: AsyncIterator[bytes]) -> bool:
        """Whether it is new. Raises Refusal: 400 when it isn't what its digest says, 507 when the disk is full."""
        if self.path(digest) is not None:
            return False
        await asyncio.to_thread(self._sweep)
        part: Path | None = None
        try:
            part = await asyncio.to_thread(self._new_part)
            found = await _write(part, pieces)
            if found != digest:
                text = f'digest mismatch, expected "{digest}", got "{found}"'
                raise Refusal(400, "digest_mismatch", text)
            await asyncio.to_thread(part.replace, self._path(digest))
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = "the head host's disk is full: free some space there, then send the file again"
            raise Refusal(507, "disk_full", text) from e
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        return True

    def forget(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.replace(":", "-")

    def _new_part(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=_PART, delete=False) as part:
            return Path(part.name)

    def _sweep(self) -> None:
        """What nobody has touched for long; another gateway, which takes over or is replaced, may use the rest."""
        before = time.time() - KEPT
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()


async def _write(path: Path, pieces: AsyncIterator[bytes]) -> str:
    """The digest of what was written; neither the disk nor the hash keeps others waiting."""
    hashed = hashlib.sha256()

    def add(pieces: list[bytes]) -> None:
        for piece in pieces:
            hashed.update(piece)
            file.write(piece)

    file = await asyncio.to_thread(path.open, "wb")
    try:
        waiting: list[bytes] = []
        size = 0
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE:
                await asyncio.to_thread(add, waiting)
                waiting, size = [], 0
        await asyncio.to_thread(add, waiting)
        await asyncio.to_thread(file.flush)
    finally:
        await asyncio.to_thread(file.close)
    return f"sha256:{hashed.hexdigest()}"


async def read(path: Path) -> AsyncIterator[bytes]:
    """Its content, piece by piece."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


def digests(body: object) -> Iterator[str]:
    """Those that a request to create a model names; what has no digest's form is left to the engine to refuse."""
    if not isinstance(body, dict):
        return
    for key in ("files", "adapters"):
        named = body.get(key)
        for value in named.values() if isinstance(named, dict) else ():
            if isinstance(value, str) and _DIGEST.fullmatch(value):
                yield digest_of(value)
