"""One JSON object a line on stderr; systemd's journal keeps them."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO


class Log:
    """Lines are written at once; ts is seconds since 1970."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._write = (stream or sys.stderr).write
        self._encode = json.JSONEncoder(separators=(",", ":"), default=str).encode

    def write(self, event: str, **fields: Any) -> None:
        self._write(self._encode({"ts": round(time.time(), 3), "event": event, **fields}) + "\n")


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
