"""How far a task is, as it says itself: a share from 0 to 1, and a line of text.

What runs in a process of its own calls `report`, which writes to a pipe; its worker reads there, and passes the latest
on by Dask's events. It is news, not a record: the task manager keeps the last of it in memory while the task runs.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

TOPIC = "cluster-ai-progress"  # of Dask's events
PIPE = "CLUSTER_AI_TASK_PROGRESS"  # the number of its end in the task's process
EVERY = 0.5  # seconds between two that are passed on
LONGEST = 200  # characters


@dataclass(frozen=True, slots=True)
class Progress:
    share: float
    text: str


def report(share: float, text: str = "") -> None:
    """For a plugin's functions, as often as they like. Outside of a task it does nothing.

    text: one line; what is longer is cut. Raises ValueError for a share that isn't from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of 0 to 1 is needed, found {share!r}")
    pipe = os.environ.get(PIPE)
    if pipe is not None:
        os.write(int(pipe), json.dumps([float(share), " ".join(text.split())[:LONGEST]]).encode() + b"\n")


def listen(pipe: int, tell: Callable[[Progress], None], every: float = EVERY) -> None:
    """Until nobody writes there any more: the latest, but not oftener than so many seconds. Closes it."""
    rest, latest, due = b"", None, 0.0
    with selectors.DefaultSelector() as selector, open(pipe, "rb", buffering=0) as file:
        selector.register(file, selectors.EVENT_READ)
        while True:
            if selector.select(None if latest is None else max(due - time.monotonic(), 0.0)):
                piece = os.read(pipe, 65536)
                *lines, rest = (rest + piece).split(b"\n")
                latest = next((found for line in reversed(lines) if (found := parse(line))), latest)
                if not piece:
                    break
            if latest is not None and time.monotonic() >= due:
                tell(latest)
                latest, due = None, time.monotonic() + every
    if latest is not None:
        tell(latest)


def parse(line: bytes) -> Progress | None:
    """None for what `report` never wrote: whatever runs in that process could write there."""
    try:
        share, text = json.loads(line)
        found = Progress(float(share), str(text)[:LONGEST])
    except (ValueError, TypeError):
        return None
    return found if math.isfinite(found.share) and 0 <= found.share <= 1 else None
