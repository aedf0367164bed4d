"""Files that are for their owner only."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def must_be_plain(path: Path) -> None:
    """Raises FileExistsError for a folder, a device (/dev/null) or a pipe, which a new file would take the place of."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is no plain file", str(path))


def write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for its owner only from the first byte on. Raises OSError."""
    must_be_plain(path)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
