"""A short measure of a machine, before it is a worker: memory, disk, and the way from the head host.

It is for people, who see so that a machine is slow. How fast models answer there is measured by cluster_ai/bench, when
they are there, and written into cluster.yaml: placement and the gateway's resource-aware policy go by that.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from cluster_ai.errors import HostError
from cluster_ai.provision import ssh
from cluster_ai.provision.refusals import Reply

SENT = 8 * 2**20  # bytes from the head, for the bandwidth

# Memory: copies of 64 MiB, the best of eight. Disk: 64 MiB, as they are on it when fsync returns.
_HOST = """
import json, os, tempfile, time
block = bytearray(1 << 26)
best = 0.0
for _ in range(8):
    begin = time.perf_counter()
    copy = bytes(block)
    best = max(best, 2 * len(block) / (time.perf_counter() - begin))
    del copy
chunk = os.urandom(1 << 20)
with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
    begin = time.perf_counter()
    for _ in range(64):
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    disk = (64 << 20) / (time.perf_counter() - begin)
print(json.dumps([best, disk]))
"""

# The machine takes one connection, from who knows the word; the head measures. Both end by themselves.
_TAKE = """
import socket, sys, time
port, word, size = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
end = time.monotonic() + 12
both = socket.has_dualstack_ipv6()
server = socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
while time.monotonic() < end:
    server.settimeout(max(0.1, end - time.monotonic()))
    try:
        peer, _ = server.accept()
        peer.settimeout(5)
        if peer.recv(len(word), socket.MSG_WAITALL) != word:
            peer.close()
            continue
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            peer.sendall(peer.recv(1))
        while size > 0:
            got = peer.recv(min(size, 1 << 16))
            if not got:
                break
            size -= len(got)
        peer.sendall(b"!")
        break
    except OSError:
        pass
"""
_GIVE = """
import json, socket, sys, time
address, port, word, size = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
end = time.monotonic() + 8
while True:
    try:
        peer = socket.create_connection((address, port), 3)
        break
    except OSError:
        if time.monotonic() > end:
            sys.exit("no way to it")
        time.sleep(0.2)
peer.settimeout(10)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
peer.sendall(word)
times = []
for _ in range(10):
    begin = time.perf_counter()
    peer.sendall(b".")
    if not peer.recv(1):
        sys.exit("refused")
    times.append(time.perf_counter() - begin)
begin = time.perf_counter()
peer.sendall(bytes(size))
peer.recv(1)
print(json.dumps([min(times), size / (time.perf_counter() - begin)]))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes a second, and seconds. None: not measured."""

    memory: float | None = None
    disk: float | None = None
    latency: float | None = None
    bandwidth: float | None = None


def host(address: str, argv: tuple[str, ...], sudo_password: str | None) -> Measured:
    call = ssh.Call(address, argv, shlex.join(("python3", "-c", _HOST)))
    memory, disk = _pair(ssh.run([call], sudo_password=sudo_password)[address])
    return Measured(memory, disk)


def link(
    address: str, argv: tuple[str, ...], on_head: tuple[str, ...], word: str, *, port: int
) -> tuple[float | None, float | None] | None:
    """Latency and bandwidth from the head to a machine; None where the head can't be asked, or finds no way."""
    take = ssh.Call("machine", argv, shlex.join(("python3", "-c", _TAKE, str(port), word, str(SENT))), as_root=False)
    give = ssh.Call(
        "head", on_head, shlex.join(("python3", "-c", _GIVE, address, str(port), word, str(SENT))), as_root=False
    )
    found = _pair(ssh.run([take, give])["head"])
    return None if None in found else found


def _pair(reply: Reply | HostError) -> tuple[float | None, float | None]:
    try:
        one, other = json.loads(reply.text) if isinstance(reply, Reply) else (None, None)
    except ValueError:
        return None, None
    return one, other
