"""The operator's side of a join token: answers a machine that has proven one, so that it lets the operator's key in."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.config.model import Ssh
from cluster_ai.discovery.finders.beacon import opened
from cluster_ai.discovery.merging import Machine
from cluster_ai.discovery.packets import Word, clean, datagram, read
from cluster_ai.errors import ConfigError
from cluster_ai.inventory.ssh import ssh_argv

PATIENCE = 8.0  # seconds that a machine has to do as it was answered
EVERY = 0.5


def login(ssh: Ssh, address: str) -> tuple[str, str]:
    """User and public key that OpenSSH would log in with there."""
    first, *rest = ssh_argv(ssh, address, persist=False)
    asked = subprocess.run([first, "-G", *rest], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    settings = [line.partition(" ")[::2] for line in asked.stdout.splitlines()]
    user = next((value for key, value in settings if key == "user"), "root")
    files = [Path(value).expanduser() for key, value in settings if key == "identityfile"]
    for file in files:
        public = file.with_name(file.name + ".pub")
        if public.is_file():
            return user, _key(public.read_text())
        if file.is_file():
            made = subprocess.run(
                ["ssh-keygen", "-y", "-P", "", "-f", str(file)], capture_output=True, text=True, check=False
            )
            if made.returncode == 0:
                return user, _key(made.stdout)
    agent = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if agent.returncode == 0 and agent.stdout.strip():
        return user, _key(agent.stdout.splitlines()[0])
    raise ConfigError(
        "there is no SSH key that a machine which joins could let in", remedy="ssh-keygen makes one; or set ssh.key"
    )


def _key(line: str) -> str:
    """Kind and key, without the comment."""
    return " ".join(line.split()[:2])


async def welcome(machine: Machine, secret: bytes, user: str, key: str) -> bool:
    """Answer until the machine says that it has let the key in. False: it said nothing."""
    assert machine.announcement
    told = machine.announcement
    content = {"kind": "welcome", "nonce": told.nonce, "token": told.token, "user": user, "key": key}
    return await _answered(machine, content, secret)


async def refuse(machine: Machine, secret: bytes, why: str) -> None:
    """Tell the person who stands before the machine. Once: it may have gone."""
    assert machine.announcement
    told = machine.announcement
    content = {"kind": "refused", "nonce": told.nonce, "token": told.token, "why": clean(why)}
    await _answered(machine, content, secret, patience=0)


class _Heard(asyncio.DatagramProtocol):
    def __init__(self, nonce: str, secret: bytes) -> None:
        self._nonce, self._secret = nonce, secret
        self.joined = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        word = read(data)
        if isinstance(word, Word) and word.kind == "joined" and word.nonce == self._nonce and word.proven(self._secret):
            self.joined.set()

    def error_received(self, exc: Exception) -> None:
        """It doesn't listen any more; the time runs out."""


async def _answered(machine: Machine, content: dict[str, Any], secret: bytes, *, patience: float = PATIENCE) -> bool:
    assert machine.announcement
    assert machine.at
    version = 6 if ":" in machine.at[0] else 4
    transport, heard = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Heard(content["nonce"], secret), sock=opened(version, 0)
    )
    try:
        end = time.monotonic() + patience
        packet = datagram(content, secret)
        address, _, scope = machine.at[0].partition("%")
        to: tuple[Any, ...] = (address, layout.BEACON_PORT)
        if scope:
            import socket

            to = (address, layout.BEACON_PORT, 0, int(scope) if scope.isdecimal() else socket.if_nametoindex(scope))
        while True:
            transport.sendto(packet, to)
            try:
                async with asyncio.timeout(EVERY if patience else 0):
                    await heard.joined.wait()
                    return True
            except TimeoutError:
                if time.monotonic() >= end:
                    return False
    finally:
        transport.close()


def welcomed(machines: Sequence[tuple[Machine, bytes]], user: str, key: str) -> list[bool]:
    """`welcome` for several machines at once."""

    async def all_of() -> list[bool]:
        return await asyncio.gather(*(welcome(machine, secret, user, key) for machine, secret in machines))

    return asyncio.run(all_of())
