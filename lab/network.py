"""The bridge between hosts, and what can go wrong on it: cut ports, cut pairs, delay and loss."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NoReturn

from lab.context import BRIDGE, NET, TABLE, TAG, pick, run, wait
from lab.processes import live, spawn

TUNSETIFF, IFF_TAP_NO_PI, SOL_PACKET, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 0x400454CA, 0x1002, 263, 23, 3
# Turns checksum offload of host0 on or off (SIOCETHTOOL, ETHTOOL_STXCSUM), so that a relay sees whole small frames.
CHECKSUM = (
    "import fcntl, socket, struct, ctypes; b = ctypes.create_string_buffer(struct.pack('II', 0x17, {on})); "
    "fcntl.ioctl(socket.socket(), 0x8946, struct.pack('16sP16x', b'host0', ctypes.addressof(b)))"
)


def up() -> None:
    watches = Path("/proc/sys/fs/inotify/max_user_instances")  # 128 by default: hosts past about 20 fail to boot
    if int(watches.read_text()) < 4096:
        watches.write_text("4096")
    run("ip", "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0", check=False)
    run("ip", "addr", "replace", f"{NET}.1/24", "dev", BRIDGE)
    # A MAC of its own: else it takes the lowest of its ports, and every ARP entry goes stale when a port comes or goes.
    mac = "02:00:" + ":".join(f"{int(part):02x}" for part in f"{NET}.1".split("."))
    run("ip", "link", "set", BRIDGE, "address", mac, "up")
    if not run("nft", "list", "table", "bridge", TABLE, check=False):
        rules = f"""table bridge {TABLE} {{
            set cut {{ type ifname; }}
            set pair {{ type ifname . ifname; }}
            chain before {{ type filter hook prerouting priority -300; iifname @cut drop; }}
            chain between {{ type filter hook forward priority 0; iifname . oifname @pair drop; }}
            chain after {{ type filter hook postrouting priority 300; oifname @cut drop; }}
        }}"""
        run("nft", "-f", "-", stdin=rules)


def down() -> None:
    run("nft", "delete", "table", "bridge", TABLE, check=False)
    run("ip", "link", "delete", BRIDGE, check=False)


def partition(hosts: list[str], on: bool) -> None:
    """Cut one host from all, or two from each other; silently, as a broken switch does."""
    for host in hosts:
        pick(host)
    prefixes = (TAG, f"{TAG}d")  # the plain port, and the one used under netem
    if len(hosts) == 1:
        elements = [("cut", f"{p}-{hosts[0]}") for p in prefixes]
    else:
        pairs = (tuple(hosts[:2]), tuple(reversed(hosts[:2])))
        elements = [("pair", f"{p}-{a} . {q}-{b}") for p in prefixes for q in prefixes for a, b in pairs]
    for name, element in elements:
        run("nft", "add" if on else "delete", "element", "bridge", TABLE, name, "{", element, "}", check=on)


def netem(host: str, arguments: list[str]) -> None:
    """Delay (ms) and loss (%) each way on a host's link, or "off"."""
    if relaying := live(host, "netem"):
        os.kill(relaying, signal.SIGKILL)
        wait(lambda: not live(host, "netem"), 5)
    on = bool(arguments) and arguments[0] != "off"
    run("ip", "netns", "exec", f"{TAG}-{host}", sys.executable, "-c", CHECKSUM.format(on=int(not on)))
    run("ip", "link", "set", f"{TAG}-{host}", *(["nomaster"] if on else ["master", BRIDGE]))
    if on:
        script = str(Path(__file__).with_name("lab.py"))
        spawn(host, "netem", [sys.executable, script, "_relay", host, *arguments])
        if not wait(lambda: run("ip", "link", "set", f"{TAG}d-{host}", "master", BRIDGE, "up", check=False), 5):
            sys.exit(f"lab: the relay of {host} didn't start")


def relay(host: str, delay: str, loss: str = "0") -> NoReturn:
    """Between a host's veth and a TAP port of the bridge, with delay and loss each way (kernels without sch_netem)."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", f"{TAG}d-{host}".encode(), IFF_TAP_NO_PI))
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packets.bind((f"{TAG}-{host}", ETH_P_ALL))
    packets.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    seconds, share = float(delay.removesuffix("ms")) / 1000, float(loss.removesuffix("%")) / 100
    other_side = {tap: packets.fileno(), packets.fileno(): tap}
    queue: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        timeout = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for fd in select.select(list(other_side), [], [], timeout)[0]:
            frame, count = os.read(fd, 65536), count + 1
            if random.random() >= share:  # noqa: S311 (loss needs no secret)
                heapq.heappush(queue, (time.monotonic() + seconds, count, other_side[fd], frame))
        while queue and queue[0][0] <= time.monotonic():
            _, _, fd, frame = heapq.heappop(queue)
            with contextlib.suppress(OSError):
                os.write(fd, frame)
