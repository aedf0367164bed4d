"""A connection to a host's peer.py that lasts as long as a push: its orders in, what happens there out."""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import subprocess
from gevent.event import AsyncResult

START = 30  # seconds until it must be ready
ALIVE = 15  # seconds between signs of life; peer.py ends without them

Message = dict[str, Any]


class Session:
    """`told` gets every message but the first; None at the end."""

    def __init__(
        self,
        ssh: Sequence[str],
        command: str,
        before: Sequence[str],
        order: Message,
        told: Callable[[Message | None], None],
    ) -> None:
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 (not a pipe, which a connection that stays open would hold)
        self._process = subprocess.Popen(
            [*ssh, shlex.join(("sh", "-c", command))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._err,
            start_new_session=True,
        )
        self._first: AsyncResult[Message] = AsyncResult()
        self._told = told
        self._write("".join(f"{line}\n" for line in before) + json.dumps(order) + "\n")
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._live)]

    def ready(self) -> Message:
        """Its first message; {"error": ...} when it can't be had."""
        try:
            first: Message = self._first.get(timeout=START)
        except gevent.Timeout:
            return {"error": f"no answer in {START} s"}
        return first

    def order(self, **fields: Any) -> None:
        self._write(json.dumps(fields) + "\n")

    def close(self) -> None:
        """End it, and what runs there with it."""
        gevent.killall(self._greenlets)
        with contextlib.suppress(OSError):  # what it never took
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._err.close()

    def _write(self, text: str) -> None:
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended, which its reader tells

    def _live(self) -> None:
        while True:
            gevent.sleep(ALIVE)
            self.order()

    def _read(self) -> None:
        for line in self._process.stdout:
            try:
                message: Message = json.loads(line)
            except ValueError:
                continue  # a banner
            if self._first.ready():
                self._told(message)
            else:
                self._first.set(message)
        self._process.wait()
        self._err.seek(0)
        last = (self._err.read().decode(errors="replace").strip().splitlines() or ["it ended"])[-1]
        if not self._first.ready():
            self._first.set({"error": last})
        self._told(None)
