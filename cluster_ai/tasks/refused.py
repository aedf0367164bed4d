"""How the task manager refuses what the gateway asks of it."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 (an answer)
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
