"""Files from outside: resumed where a fetch broke off, hashed, never half there under their final name."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cluster_ai.errors import BundleError

CHUNK = 1 << 20
TIMEOUT = 60.0


def download(url: str, folder: Path, progress: Callable[[str, int, int | None], None] | None) -> tuple[Path, str]:
    """Fetch into a file of the folder that only this URL has; returns it and its SHA-256. The file is the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    try:
        _fetch(url, path, progress)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # all of it is here already
            return path, _sha256(path)
        remedy = (
            "Run this again to go on; where there is no way out, fetch it elsewhere and set engine.source to the file."
        )
        raise BundleError(f"can't be fetched: {error}", where=url, remedy=remedy) from error
    return path, _sha256(path)


def _fetch(url: str, path: Path, progress: Callable[[str, int, int | None], None] | None) -> None:
    have = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 (source() has checked)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with path.open("ab" if have else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(url, have, total)
    if total is not None and have < total:
        raise OSError(f"it broke off after {have} of {total} bytes")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
