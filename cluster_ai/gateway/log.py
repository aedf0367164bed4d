"""One JSON object a line on stderr; systemd's journal keeps them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any, TextIO


class Log:
    """ts is seconds since 1970. period: seconds after which gathered lines are written together; 0: all at once."""

    def __init__(self, stream: TextIO | None = None, period: float = 0.0) -> None:
        self._stream, self._period = stream or sys.stderr, period
        self._encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
        self._gathered: list[str] = []

    def write(self, event: str, **fields: Any) -> None:
        self._gathered.append(self._line(event, fields))
        self.flush()

    def gather(self, event: str, **fields: Any) -> None:
        """Of what there are hundreds a second: a write for each would be a fifth of what a short request costs."""
        if not self._gathered and self._period:
            asyncio.get_running_loop().call_later(self._period, self.flush)
        self._gathered.append(self._line(event, fields))
        if not self._period:
            self.flush()

    def flush(self) -> None:
        lines, self._gathered = self._gathered, []
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()

    def _line(self, event: str, fields: dict[str, Any]) -> str:
        return self._encode({"ts": round(time.time(), 3), "event": event, **fields}) + "\n"


class Handler(logging.Handler):
    """Libraries' own messages, in the same form."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._log.write("log", **fields)
