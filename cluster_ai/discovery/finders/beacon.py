"""Our own beacon: machines that run discovery/join.py announce themselves, and answer when asked who is there."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from cluster_ai import layout
from cluster_ai.discovery.damper import Damper
from cluster_ai.discovery.merging import Sighting
from cluster_ai.discovery.networks import Own
from cluster_ai.discovery.packets import Announcement, datagram, read

EVERY = 1.0  # seconds between questions
Secret = Callable[[str], bytes | None]  # of a token, by its id


class Beacon(asyncio.DatagramProtocol):
    """Reads announcements. One that doesn't prove the token it claims is ignored, so that it hides no other."""

    def __init__(self, secret: Secret, tell: Callable[[Sighting], None], damper: Damper) -> None:
        self._secret, self._tell, self.damper = secret, tell, damper
        self._proven: set[str] = set()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        source = str(addr[0])
        if not self.damper.allows(source, time.monotonic()):
            return
        told = read(data)
        if not isinstance(told, Announcement):
            return
        if told.token:
            secret = self._secret(told.token)
            if secret is None or not told.proven(secret):
                self.damper.ignored += 1
                return
            if len(self._proven) < 4096:
                self._proven.add(source)
        elif source in self._proven:
            self.damper.ignored += 1
            return
        at = (source, layout.BEACON_PORT)
        self._tell(Sighting("beacon", source, name=told.name, system=told.system, announcement=told, at=at))

    def error_received(self, exc: Exception) -> None:
        """A machine that has gone says that nobody listens there: no reason to end."""


async def find(here: Sequence[Own], secret: Secret, tell: Callable[[Sighting], None], damper: Damper) -> None:
    """Ask and listen until cancelled."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.DatagramTransport] = []
    try:
        for family in sorted({it.address.version for it in here}):
            transport, _ = await loop.create_datagram_endpoint(
                lambda: Beacon(secret, tell, damper), sock=opened(family, layout.BEACON_PORT)
            )
            transports.append(transport)
        while True:
            question = datagram({"kind": "ask", "nonce": secrets.token_hex(16)})
            for transport in transports:
                ask(transport, here, question)
            await asyncio.sleep(EVERY)
    finally:
        for transport in transports:
            transport.close()


def opened(version: int, port: int) -> socket.socket:
    """A socket on the port, which others may be on too: broadcasts reach them all."""
    made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 4:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("" if version == 4 else "::", port))
    except OSError:
        made.close()
        raise
    return made


def ask(transport: asyncio.DatagramTransport, here: Sequence[Own], question: bytes) -> None:
    """To everyone on each network: IPv4's broadcast, and IPv6's all nodes."""
    own_socket = transport.get_extra_info("socket")
    if own_socket.family == socket.AF_INET:
        broadcasts = {str(it.network.broadcast_address) for it in here if it.address.version == 4}
        for address in broadcasts:
            transport.sendto(question, (address, layout.BEACON_PORT))
    else:
        for index in {it.index for it in here if it.address.version == 6}:
            transport.sendto(question, ("ff02::1", layout.BEACON_PORT, 0, index))
