"""Machines of a small network, each reachable in one way only; runs in a network namespace of its own.

    python neighbourhood.py NETWORK      where NETWORK is such as 10.201.7

.3 announces itself by mDNS under an evil name, .4 answers SSDP, .5 has an SSH server, and so has the IPv6 address; .6
floods the beacon's port with what is large, deep, forged or nonsense. .2 is left for discovery/join.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from cluster_ai import layout
from cluster_ai.discovery.packets import datagram

EVIL = "\x1b[31mevil\x07"
GROUP = "239.255.255.250"


async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    await writer.drain()
    writer.close()


class Ssdp(asyncio.DatagramProtocol):
    def __init__(self, answering: asyncio.DatagramTransport) -> None:
        self._answering = answering

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.startswith(b"M-SEARCH"):
            self._answering.sendto(b"HTTP/1.1 200 OK\r\n\xff\xfe: \x80\r\nST\r\n\r\n", addr)
            head = ("HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=60", "EXT:", "ST: upnp:rootdevice", "USN: uuid:1::x")
            lines = (*head, "SERVER: Debian/12 UPnP/1.1 box/1", "LOCATION: http://127.0.0.1:1/secret", "", "")
            self._answering.sendto("\r\n".join(lines).encode(), addr)


async def main(network: str) -> None:
    loop = asyncio.get_running_loop()
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind(("", 1900))
    own.setsockopt(
        socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(f"{network}.4")
    )
    answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answering.bind((f"{network}.4", 0))
    answering.setblocking(False)
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=answering)
    own.setblocking(False)
    await loop.create_datagram_endpoint(lambda: Ssdp(sender), sock=own)
    await asyncio.start_server(ssh, f"{network}.5", 22)
    await asyncio.start_server(ssh, "::", 22, family=socket.AF_INET6)
    flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flood.bind((f"{network}.6", 0))
    async with AsyncZeroconf(interfaces=[f"{network}.3"]) as zeroconf:
        info = ServiceInfo(
            "_workstation._tcp.local.",
            "box._workstation._tcp.local.",  # zeroconf itself sends no evil one
            port=9,
            server=f"{EVIL}.local.",
            addresses=[socket.inet_aton(f"{network}.3")],
        )
        await zeroconf.async_register_service(info, allow_name_change=True)
        print("ready", flush=True)
        forged = datagram({"kind": "here", "nonce": "0" * 32, "token": "aaaaaa"}, b"guessed")
        for number in range(1_000_000):
            for packet in (forged, b"cluster-ai/1 - " + b"[" * 1200, struct.pack("!I", number) * 400):
                flood.sendto(packet, (f"{network}.1", layout.BEACON_PORT))
            await asyncio.sleep(0.01)


asyncio.run(main(sys.argv[1]))
