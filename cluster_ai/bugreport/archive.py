"""The bundle's file. Every text goes through the scrubber here, so that none gets by it."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster_ai.errors import UsageError
from cluster_ai.security import files

FOLDER = "cluster-ai-bundle"


def write(path: Path, texts: Mapping[str, str], scrub: Callable[[str], str]) -> None:
    """A .tar.gz that only its owner may read. Raises UsageError where it can't be written."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in texts.items():
            content = scrub(text).encode(errors="replace")
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
            tar.addfile(member, io.BytesIO(content))
    try:
        files.write(path, packed.getvalue())
    except OSError as error:
        raise UsageError(f"can't be written: {error.strerror}", where=str(path)) from error
