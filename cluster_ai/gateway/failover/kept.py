"""What a client has been sent of a stream, kept unread until a break asks for it."""

from __future__ import annotations

import zlib

LIMIT = 8 * 1024 * 1024  # bytes of a stream; an answer that is longer can't be resumed
_BLOCK = 8 * 1024  # bytes that are kept as they came; older ones are packed: lines of a stream are very much alike


class Kept:
    """The bytes of one stream. A token costs an append, and a share of packing a block: half a microsecond."""

    __slots__ = ("_fresh", "_packed", "_size", "size")

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._fresh: list[bytes] = []
        self._size = 0  # of the fresh ones
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._fresh.append(piece)
        self._size += len(piece)
        if self._size >= _BLOCK:
            self._pack()

    @property
    def whole(self) -> bool:
        """Whether all of it is still here."""
        return self.size + self._size <= LIMIT

    def read(self) -> bytes:
        return b"".join([*(zlib.decompress(block) for block in self._packed), *self._fresh])

    def last(self) -> bytes:
        """The piece that came last, or what was packed with it."""
        if self._fresh:
            return self._fresh[-1]
        return zlib.decompress(self._packed[-1]) if self._packed else b""

    def _pack(self) -> None:
        self.size += self._size
        if self.size <= LIMIT:
            self._packed.append(zlib.compress(b"".join(self._fresh), 1))
        else:
            self._packed.clear()
        self._fresh, self._size = [], 0
