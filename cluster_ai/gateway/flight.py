"""A request on its way: what is known of it, and how it is given up."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Flight:
    """A request on its way to, or streaming from, a worker; the checks can abort it when its worker is lost.

    The relay counts pieces and says when it waits for one; the rest is the watch's (failover/watch.py).
    """

    __slots__ = (
        "_task",
        "idle",
        "last_byte",
        "lost",
        "model",
        "pieces",
        "response",
        "seen",
        "size",
        "streams",
        "waiting",
    )

    def __init__(
        self, task: asyncio.Task[object], now: float, model: str = "", size: int = 0, *, streams: bool = False
    ) -> None:
        """size: bytes of the request."""
        self._task, self.model, self.size, self.streams = task, model, size, streams
        self.response: Closable | None = None  # once it has begun
        self.pieces = 0
        self.waiting = True
        self.seen = 0  # pieces, when it was last looked at
        self.idle = 0.0  # seconds that it waits, as far as was seen
        self.last_byte = now
        self.lost = ""  # why it was aborted

    def abort(self, reason: str) -> None:
        """What waits for the answer's beginning is cancelled; an answer's connection is closed, which its reader sees.

        So that a task which is just sending to its client isn't disturbed in that.
        """
        if self.lost:
            return
        self.lost = reason
        if self.response is None:
            self._task.cancel()
        else:
            self.response.close()


class Closable(Protocol):
    def close(self) -> object: ...
