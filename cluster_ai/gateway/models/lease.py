"""Whether somebody changes the cluster now: as long as a rollout goes on, nothing else moves models."""

from __future__ import annotations

import json
import time
from pathlib import Path


def holder(path: Path | None) -> str:
    """Who, as rollout/lease.py wrote it on this host; empty: nobody. A file that can't be read says nothing."""
    if path is None:
        return ""
    try:
        held = json.loads(path.read_text())
        alive = float(held.get("expires", 0)) > time.time()
        return f"{held.get('owner', 'somebody')}: {held.get('doing', 'a rollout')}" if alive else ""
    except (OSError, ValueError, TypeError, AttributeError):
        return ""
