"""Processes of a benchmark: each on the cores it is given, ready when it answers, gone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path


class Ports:
    """Ports that are free, none twice."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self) -> int:
        while True:
            with socket.socket() as asked:
                asked.bind(("127.0.0.1", 0))
                port: int = asked.getsockname()[1]
            if port not in self._given:
                self._given.add(port)
                return port


def pinned(cores: Iterable[int], command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


def answers(url: str, headers: Mapping[str, str]) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=5) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    ready: str,
    headers: Mapping[str, str] | None = None,
    within: float = 120,
) -> Iterator[int]:
    """Yields its process id once the URL `ready` answers. Its whole group ends with the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **(environment or {})}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + within
        while not answers(ready, headers or {}):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: {command} doesn't answer:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
