"""Cuts a stream so that its client is sent whole objects only: what breaks within one can then go on with the next."""

from __future__ import annotations

import json

ERROR = b'{"error"'  # so begins the object in which an engine gives up; within texts, quotes are escaped
LIMIT = 8 * 1024 * 1024  # bytes of one object, of which no end comes


class Seam:
    """separator: how an object ends."""

    __slots__ = ("_separator", "rest")

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self.rest = b""  # of an object that isn't whole yet

    def cut(self, piece: bytes) -> tuple[bytes, bytes]:
        """The whole objects up to here, and the one after them in which the engine gave up, or nothing."""
        data = self.rest + piece
        end = data.rfind(self._separator)
        cut = end + len(self._separator) if end >= 0 else 0
        whole, self.rest = data[:cut], data[cut:]
        if ERROR not in whole:
            return whole, b""
        start = 0
        for part in whole.split(self._separator):
            if ERROR in part and gives_up(part):
                return whole[:start], whole[start:]
            start += len(part) + len(self._separator)
        return whole, b""

    @property
    def overlong(self) -> bool:
        return len(self.rest) > LIMIT


def gives_up(part: bytes) -> str:
    """What the engine says of it; empty where this is no such object."""
    try:
        value = json.loads(part.strip().removeprefix(b"data:"))
    except ValueError:
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error) if error else ""
