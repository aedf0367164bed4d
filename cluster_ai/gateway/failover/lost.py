"""The end of an answer that isn't its end."""

from __future__ import annotations


class LostError(Exception):
    """The worker stopped answering. alive: it may be well, only this connection isn't."""

    def __init__(self, reason: str, *, alive: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.alive = reason, alive
