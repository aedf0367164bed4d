"""Confirms a switch that waits for it, over a connection of its own: that one can be made is what is confirmed."""

from __future__ import annotations

from types import TracebackType

import gevent
from gevent.event import Event
from pyinfra.api import Host, StringCommand

from cluster_ai import layout
from cluster_ai.deploys import remote
from cluster_ai.deploys.events import tell
from cluster_ai.deploys.openssh import OpenSSH
from cluster_ai.deploys.remote import MINUTES

WAITS = "healthy; waiting"  # how the switch script says it
AGAIN = 2  # seconds between tries


class Confirmation:
    """`with` it around a switch: its lines are told, and it is confirmed as soon as it waits."""

    def __init__(self, host: Host, digest: str) -> None:
        self._host, self._digest = host.connector.host, digest  # not pyinfra's `host`, which another greenlet can't use
        self._waits = Event()
        self.refused: list[str] = []  # why it could not be confirmed

    def __enter__(self) -> Confirmation:
        if isinstance(self._host.connector, OpenSSH):
            self._host.connector.on_line = self._line
        else:
            self._waits.set()  # pyinfra's own connectors don't tell lines as they come: try until it waits
        self._greenlet = gevent.spawn(self._confirm)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._greenlet.kill()
        if isinstance(self._host.connector, OpenSSH):
            self._host.connector.on_line = None

    def _line(self, line: str) -> None:
        if line.startswith(WAITS):
            self._waits.set()
        if not line.startswith("status="):
            tell(self._host, "switch", "start", line)

    def _confirm(self) -> None:
        self._waits.wait()
        while not self._try():
            gevent.sleep(AGAIN)

    def _try(self) -> bool:
        """With a connector of its own, so a connection of its own."""
        host = self._host
        connector = type(host.connector)(host.state, host)
        connector.fresh = True
        prefix, before, _ = remote.as_root(host)
        command = StringCommand(*prefix, str(layout.LIBEXEC / "switch"), "--confirm", self._digest)
        try:
            connector.connect()
            ok, output = connector.run_shell_command(command, _stdin=before, _timeout=MINUTES)
        except Exception as error:  # pyinfra, paramiko and ssh fail in many ways; all mean that it isn't confirmed
            self.refused = [f"a new connection could not be made: {error}"]
            return False
        finally:
            connector.disconnect()
        if not ok and not self.refused:
            self.refused = [f"could not be confirmed: {output.stdout or output.stderr}"]
        return bool(ok)
