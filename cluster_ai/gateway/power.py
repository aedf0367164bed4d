"""Wakes hosts: by Wake-on-LAN, or by a command that cluster.yaml names, run on the head host.

A magic packet is six bytes of ones and sixteen times the address of the network card (AMD, "Magic Packet Technology",
1995); it goes to the discard port by UDP, as is usual. Nothing that the API is asked gets into either.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence

import psutil

from cluster_ai.settings import StandbySettings

PORT = 9  # discard
PATIENCE = 60.0  # seconds that a command may take
TOLD = 300  # characters of what it said


class WakeError(Exception):
    """The host can't be woken; the text says why."""


def magic_packet(mac: str) -> bytes:
    """mac: twelve hexadecimal digits, in pairs with : or - between."""
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "").replace("-", "")) * 16


def broadcasts() -> list[str]:
    """Addresses that reach everybody on each of this host's IPv4 networks."""
    found = (it.broadcast for addresses in psutil.net_if_addrs().values() for it in addresses)
    return sorted({it for it in found if it and ":" not in it})


def send(mac: str, targets: Iterable[str], port: int = PORT) -> None:
    """Raises OSError where no target takes it."""
    packet, sent, error = magic_packet(mac), False, OSError("this host has no network that it could be sent to")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for target in targets:
            try:
                out.sendto(packet, (target, port))
                sent = True
            except OSError as e:
                error = e
    if not sent:
        raise error


async def wake(told: StandbySettings) -> None:
    """Raises WakeError."""
    if told.mac is not None:
        try:
            send(told.mac, [told.broadcast] if told.broadcast else broadcasts())
        except OSError as e:
            raise WakeError(f"the magic packet can't be sent: {e}") from e
    else:
        await _run(told.wake)


async def _run(command: Sequence[str]) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as e:
        raise WakeError(f"{command[0]} can't be run: {e.strerror}") from e
    try:
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
    except TimeoutError:
        raise WakeError(f"{command[0]} took longer than {PATIENCE:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        text = said.decode(errors="replace").strip()[-TOLD:]
        raise WakeError(f"{command[0]} ended with {process.returncode}{f': {text}' if text else ''}")
