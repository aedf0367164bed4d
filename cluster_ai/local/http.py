"""The few HTTP requests to our own processes on loopback; blocking, so the supervisor makes them in threads.

A Unix socket's URL is unix://<its path, quoted>/<path>.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster_ai.errors import UnavailableError


def get(url: str, timeout: float = 2.0) -> tuple[int, str]:
    """Status and body. Raises OSError or http.client.HTTPException."""
    with _open("GET", url, None, timeout) as response:
        return response.status, response.read().decode("utf-8", "replace")


def lines(url: str, body: dict[str, Any], timeout: float) -> Iterator[tuple[http.client.HTTPResponse, dict[str, Any]]]:
    """The JSON lines of an answer. timeout is between two of them. Raises UnavailableError when the server refuses."""
    with _open("POST", url, json.dumps(body).encode(), timeout) as response:
        if response.status != 200:
            text = response.read().decode("utf-8", "replace")[:300]
            raise UnavailableError(f"answers {response.status}: {text}", where=url)
        for line in response:
            if line.strip():
                yield response, json.loads(line)


def upload(url: str, path: Path, timeout: float) -> int:
    with (
        path.open("rb") as file,
        _open("POST", url, file, timeout, {"Content-Length": str(path.stat().st_size)}) as response,
    ):
        return response.status


def _open(
    method: str, url: str, body: Any, timeout: float, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port, timeout=timeout)
    if parts.scheme == "unix":
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(urllib.parse.unquote(parts.netloc))
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(
        method, path or "/", body, {"Connection": "close", "Content-Type": "application/json", **(headers or {})}
    )
    return connection.getresponse()
