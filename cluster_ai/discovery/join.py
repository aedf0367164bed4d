"""Runs on a bare machine, with python3 alone: announces it to a cluster, and waits for the operator.

    python3 join.py TOKEN

What an operator with the token's secret answers is done: his SSH key is put into authorized_keys of the user he names,
who is made where there is none. Nothing else is changed, and nobody else is obeyed. docs/discovery.md.
"""

from __future__ import annotations

import base64
import fcntl
import glob
import hashlib
import hmac
import json
import os
import platform
import pwd
import re
import secrets
import select
import socket
import subprocess
import sys
import time
from typing import Any

PORT, MAGIC, PATIENCE = 11445, b"cluster-ai/1", 3600
BROADCAST_OF = 0x8919  # SIOCGIFBRDADDR


def seal(data: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, data, "sha256").hexdigest().encode() if secret else b"-"


def pack(content: dict[str, Any], secret: bytes) -> bytes:
    data = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return b" ".join((MAGIC, seal(data, secret), data))


def unpack(packet: bytes, secret: bytes, nonce: str) -> dict[str, Any] | None:
    """What a datagram says to us; None where it isn't for this run, or not from who has the secret."""
    magic, _, rest = packet[:1401].partition(b" ")
    mac, _, data = rest.partition(b" ")
    if magic != MAGIC or len(packet) > 1400:
        return None
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    if told.get("kind") == "ask":
        return told
    ours = secret and hmac.compare_digest(mac, seal(data, secret)) and told.get("nonce") == nonce
    return told if ours else None


def text_of(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    cards = [text_of(path) for path in glob.glob("/proc/driver/nvidia/gpus/*/information")]
    gpus = [found[1].strip() for found in (re.search("Model:(.*)", card) for card in cards) if found]
    if not gpus:
        gpus = [
            "NVIDIA, without a driver"
            for path in glob.glob("/sys/bus/pci/devices/*")
            if "0x10de" in text_of(path + "/vendor") and text_of(path + "/class").startswith(("0x0300", "0x0302"))
        ]
    keys = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        words = text_of(path).split()
        if len(words) > 1:
            digest = hashlib.sha256(base64.b64decode(words[1])).digest()
            keys.append("SHA256:" + base64.b64encode(digest).decode().rstrip("="))
    system = re.search('^PRETTY_NAME="?([^"\n]*)', text_of("/etc/os-release"), re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+)", text_of("/proc/meminfo"))
    return {
        "name": socket.gethostname()[:64],
        "system": system[1][:64] if system else "",
        "arch": platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory": int(memory[1]) * 1024 if memory else 0,
        "gpus": [gpu[:48] for gpu in gpus[:8]],
        "keys": keys[:8],
    }


def sockets() -> list[socket.socket]:
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(("", PORT))
            found.append(made)
        except OSError:
            pass
    return found


def send(made: socket.socket, packet: bytes, to: Any) -> None:
    try:
        made.sendto(packet, to)
    except OSError:
        pass


def announce(all_of: list[socket.socket], packet: bytes) -> None:
    """To everyone on each network, be there a route or not."""
    for index, name in socket.if_nameindex():
        for made in all_of:
            if made.family == socket.AF_INET6:
                send(made, packet, ("ff02::1", PORT, 0, index))
                continue
            try:
                told = fcntl.ioctl(made, BROADCAST_OF, name.encode()[:15].ljust(256, b"\0"))
                send(made, packet, (socket.inet_ntoa(told[20:24]), PORT))
            except OSError:
                pass


def admit(user: str, key: str) -> None:
    """Let the operator's key log in as the user."""
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", user) or not re.fullmatch(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*", key):
        raise ValueError("the operator's answer names no user and key")
    try:
        who = pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "-m", "-s", "/bin/bash", user], check=True)
        who = pwd.getpwnam(user)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open("/etc/sudoers.d/cluster-ai-" + user, flags, 0o440), "w") as file:
            file.write(user + " ALL=(ALL) NOPASSWD:ALL\n")
    home = os.open(who.pw_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mkdir(".ssh", 0o700, dir_fd=home)
        os.chown(".ssh", who.pw_uid, who.pw_gid, dir_fd=home, follow_symlinks=False)
    except FileExistsError:
        pass
    folder = os.open(".ssh", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=home)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open("authorized_keys", flags, 0o600, dir_fd=folder), "r+") as file:
        os.fchown(file.fileno(), who.pw_uid, who.pw_gid)
        known = file.read()
        if key not in known:
            file.write(("" if known.endswith("\n") or not known else "\n") + key + " cluster-ai\n")


def main(arguments: list[str]) -> str | None:
    parts = arguments[0].split("-") if arguments else ["", "", ""]
    if len(parts) != 3 or (arguments and not all(parts)):
        return "this is no join token: copy the whole line that cluster-ai join-token create printed"
    token, secret, cluster = parts[0], parts[1].encode(), parts[2]
    if secret and os.geteuid():
        return "run this as root (sudo): the operator's key must be let in"
    told = facts()
    if not told["keys"]:
        return "this machine has no SSH server: apt install openssh-server"
    nonce = secrets.token_hex(16)
    packet = pack(dict(told, kind="here", nonce=nonce, token=token, cluster=cluster), secret)
    all_of = sockets()
    if not all_of:
        return "UDP port %d is taken: is this running twice?" % PORT
    print("Announcing %s: %s" % (told["name"], ", ".join(told["keys"])))
    print("Where the cluster is kept: cluster-ai discover --add", flush=True)
    began, due, answered = time.monotonic(), 0.0, 0.0
    until: float | None = None
    while until is None or time.monotonic() < until:
        now = time.monotonic()
        if now - began > PATIENCE:
            return "nobody has answered within an hour"
        if now >= due and until is None:
            announce(all_of, packet)
            due = now + (0.7 if now - began < 120 else 3.0)
        for made in select.select(all_of, [], [], 0.2)[0]:
            data, source = made.recvfrom(2048)
            heard = unpack(data, secret, nonce)
            if heard is None:
                continue
            kind = heard.get("kind")
            if kind == "ask" and now - answered > 0.3 and until is None:
                answered = now
                send(made, packet, source)
            elif kind == "refused":
                return "refused: " + "".join(c for c in str(heard.get("why")) if c.isprintable())
            elif kind == "welcome":
                if until is None:
                    admit(str(heard.get("user")), str(heard.get("key")))
                    print("Accepted: %s may log in as %s" % (str(heard["key"])[:40] + "...", heard["user"]), flush=True)
                until = until or now + 5
                send(made, pack({"kind": "joined", "nonce": nonce, "token": token}, secret), source)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
