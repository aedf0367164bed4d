"""The end of a stream of server-sent events, for what it says of its end and of the tokens it took."""

from __future__ import annotations

from collections import deque

_KEPT = 4096  # bytes: more than the events that end a stream take


class Events:
    """The last bytes of a stream, whatever pieces they came in; as metering.Tail is for Ollama's lines."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def feed(self, piece: bytes) -> None:
        pieces = self._pieces
        pieces.append(piece)
        self._size += len(piece)
        while self._size - len(pieces[0]) >= _KEPT:
            self._size -= len(pieces.popleft())

    @property
    def line(self) -> bytes:
        return b"".join(self._pieces)

    def at_line_end(self) -> bool:
        """Whether the next event may begin here."""
        return not self._pieces or self.line.endswith((b"\n\n", b"\r\n\r\n"))
