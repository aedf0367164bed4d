"""Processes that a test starts and that are gone when it ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds that anything may take where only a slow machine is at fault
_PORTS = range(16_384, 32_768)  # below those that the kernel gives to whoever connects
_numbers = itertools.count(os.getpid() * 101, 13)  # not in a row: some programs take the next one too


def free_port() -> int:
    """Nobody has it, nor will who only connects somewhere; another one each time."""
    while True:
        port = _PORTS[next(_numbers) % len(_PORTS)]
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], object], *, within: float = PATIENCE, what: str = "") -> None:
    """Waits for a condition with a deadline; errors of the condition count as not yet."""
    deadline = time.monotonic() + within
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except Exception as e:
            last = e
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s: {what or condition} ({last!r})")


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.popen.poll() is None

    def stop(self, *, kill: bool = False, within: float = 30) -> int:
        """Its whole group; the exit code of its leader."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            return self.popen.wait(PATIENCE)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def running(
    arguments: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    until_ready: Callable[[], object] | None = None,
    within: float = PATIENCE,
) -> Iterator[Process]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})}
    with log.open("wb") as out:
        popen = subprocess.Popen(
            arguments, stdout=out, stderr=out, env=env, start_new_session=True, cwd=log.parent, pass_fds=pass_fds
        )
    process = Process(popen, log)
    try:
        if until_ready is not None:
            try:
                until(lambda: until_ready() or not process.alive(), within=within, what=arguments[0])
                assert process.alive(), "it ended"
            except AssertionError as e:
                raise AssertionError(f"{' '.join(arguments)}: {e}\n{process.text()[-4000:]}") from None
        yield process
    finally:
        process.stop()
        with contextlib.suppress(ProcessLookupError):  # children that outlived their leader
            os.killpg(popen.pid, signal.SIGKILL)


@contextlib.contextmanager
def together(*parts: AbstractContextManager[Any]) -> Iterator[tuple[Any, ...]]:
    """Those that find each other by themselves begin at the same time; they end one by one, the last one first."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(parts)) as pool:
            entering = [pool.submit(it.__enter__) for it in parts]
        for part, entered in zip(parts, entering, strict=True):
            if entered.exception() is None:
                stack.push(part)
        yield tuple(it.result() for it in entering)
