"""Parts without the files that a host has already. The same rest is the same archive, for all of them."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path

from gevent import subprocess
from gevent.lock import RLock

from cluster_ai.deploys import repack
from cluster_ai.deploys.remote import Failure

WORTH = 1 << 20  # bytes of an archive, from which on it pays to leave files out
SHARE = 0.1  # of a part's content that must be there already
KINDS = 4  # of one part at a time: what more hosts lack differently is brought whole, which all can pass on
KEPT = 30 * 24 * 3600  # seconds

_lock = RLock()  # what two hosts want is made once
_kinds: dict[Path, set[Path]] = {}


def delta(archive: Path, members: Collection[str]) -> tuple[str, str] | None:
    """(SHA-256, path) of an archive with these members alone; None where there are too many of its kind."""
    key = hashlib.sha256(json.dumps(sorted(members)).encode()).hexdigest()
    place = archive.parent / "deltas" / f"{archive.name.partition('.')[0]}-{key[:32]}.tar.gz"
    with _lock:
        kinds = _kinds.setdefault(archive, set())
        if place not in kinds and len(kinds) >= KINDS:
            return None
        kinds.add(place)
        if not place.is_file():
            _make(archive, members, place)
        place.touch()
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), str(place)


def _make(archive: Path, members: Collection[str], place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    for old in place.parent.iterdir():
        if old.stat().st_mtime < time.time() - KEPT:
            old.unlink(missing_ok=True)
    order = json.dumps({"archive": str(archive), "members": sorted(members), "place": str(place)})
    command = [sys.executable, "-I", repack.__file__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate(order.encode())[0].decode(errors="replace").strip()
    if process.returncode:
        raise Failure(
            f"what it lacks of {archive} can't be packed: {said.rpartition(chr(10))[2]}",
            remedy="see that there is room on this machine's disk, then run it again",
        )
