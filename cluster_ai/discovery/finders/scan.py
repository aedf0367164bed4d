"""Addresses tried one by one, at a bounded rate, for an SSH server; and IPv6 neighbours, who are asked for an echo.

Nothing is sent but a TCP connection that reads the server's banner: what any SSH client does first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Sequence

from cluster_ai.discovery.merging import Sighting
from cluster_ai.discovery.networks import Own
from cluster_ai.discovery.packets import banner, system_of

AT_ONCE = 256  # connections
RATE = 200  # addresses a second
CONNECT, ANSWER = 1.5, 5.0  # seconds; a kernel takes a connection at once, but a busy host starts its server late
REPLY = b"\x81"  # an echo reply begins so
EVERY = 1.0  # seconds between requests for an echo
ECHO = struct.pack("!BBHHH", 128, 0, 0, 0x4361, 1)  # ICMPv6 echo request; the kernel fills in the checksum


async def find(addresses: Iterable[str], port: int, tell: Callable[[Sighting], None]) -> None:
    """Try every address once."""
    few = asyncio.Semaphore(AT_ONCE)
    beginning = asyncio.get_running_loop().time()

    async def tried(address: str) -> None:
        try:
            if software := await greeting(address, port):
                tell(Sighting("scan", address, software=software, system=system_of(software)))
        finally:
            few.release()

    async with asyncio.TaskGroup() as group:
        for number, address in enumerate(addresses):
            await few.acquire()
            ahead = beginning + number / RATE - asyncio.get_running_loop().time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            group.create_task(tried(address), name=f"scan:{address}")


async def greeting(address: str, port: int) -> str | None:
    """The banner of an SSH server; None where there is none."""
    writer = None
    try:
        async with asyncio.timeout(CONNECT):
            reader, writer = await asyncio.open_connection(address, port, limit=4096)
        data = b""
        async with asyncio.timeout(ANSWER):
            while len(data) < 4096 and banner(data.rpartition(b"\n")[0]) is None:
                chunk = await reader.read(512)
                if not chunk:
                    break
                data += chunk
        return banner(data)
    except (OSError, TimeoutError):
        return None
    finally:
        if writer:
            writer.transport.abort()


async def neighbours(here: Sequence[Own], port: int, tell: Callable[[Sighting], None]) -> None:
    """IPv6 networks are too wide to be tried: until cancelled, try those who answer an echo request to all nodes."""
    loop = asyncio.get_running_loop()
    heard = dict[str, None]()
    opened = []
    try:
        for it in here:
            if it.address.version != 6:
                continue
            ping = _ping()
            opened.append((ping, it.index))
            ping.setblocking(False)
            with contextlib.suppress(OSError):  # an address that isn't ready yet: then the kernel chooses one
                ping.bind((str(it.address), 0, 0, it.index if it.address.is_link_local else 0))
            loop.add_reader(ping, _answered, ping, heard)
        done = 0
        while opened:
            for ping, index in opened:
                with contextlib.suppress(OSError):
                    ping.sendto(ECHO, ("ff02::1", 0, 0, index))
            await asyncio.sleep(EVERY)
            fresh = list(heard)[done:]
            done += len(fresh)
            await find(fresh, port, tell)
    finally:
        for ping, _ in opened:
            loop.remove_reader(ping)
            ping.close()


def _ping() -> socket.socket:
    """For users, where net.ipv4.ping_group_range has their group; else for root. OSError: for neither."""
    try:
        return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
    except PermissionError:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)


def _answered(ping: socket.socket, heard: dict[str, None]) -> None:
    with contextlib.suppress(OSError):
        data, source = ping.recvfrom(256)
        if data[:1] == REPLY and len(heard) < 1024:
            scope = f"%{socket.if_indextoname(source[3])}" if source[3] and "%" not in source[0] else ""
            heard[source[0] + scope] = None
