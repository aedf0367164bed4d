"""A folder for sockets of this user: with a short path, since a socket's may have 104 bytes, and closed to others."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cluster_ai.errors import ConfigError


def folder() -> Path:
    """Made where it isn't. Raises ConfigError where another user has it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(runtime) <= 24 and Path(runtime).is_dir():
        path = Path(runtime) / "cluster-ai"
    else:
        path = Path(tempfile.gettempdir()) / f"cluster-ai-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink() or status.st_mode & 0o077:
        raise ConfigError(
            "belongs to another user, or is open to others", where=str(path), remedy=f"remove it: rm -r {path}"
        )
    return path
