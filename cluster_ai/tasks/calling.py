"""A call of an engine that another thread may end. To close a connection doesn't wake who reads from it."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import suppress

AWAY = 60.0  # seconds in which an engine that isn't there is asked again
AGAIN = 0.5  # seconds between two tries


class Call(http.client.HTTPConnection):
    """One connection, for one question."""

    _open: socket.socket | None = None  # also after the answer's head, when `sock` may be None
    _stopped = False

    def stop(self) -> None:
        """Whoever connects or waits for an answer gets an OSError at once. From any thread, also before it begins."""
        self._stopped = True
        if self._open is not None:
            with suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        """An engine that is started anew is waited for. Raises OSError."""
        deadline = time.monotonic() + AWAY
        while True:
            try:
                super().connect()
                break
            except ConnectionRefusedError:
                if self._stopped or time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN)
        self._open = self.sock
        if self._stopped:
            raise ConnectionAbortedError("stopped")
