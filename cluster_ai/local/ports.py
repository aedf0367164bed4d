"""Which ports are taken, and by whom."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Mapping

from cluster_ai.errors import ClusterAIError, ErrorGroup, UnavailableError

LOOPBACK = "127.0.0.1"


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def next_free(first: int, count: int, taken: Iterable[int]) -> tuple[int, ...]:
    """The next free ports from `first` up."""
    avoid, found = set(taken), list[int]()
    for port in range(first, 65536):
        if port not in avoid and free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise UnavailableError(
        f"there aren't {count} free ports from {first} up", where="engines", remedy="choose others with --engine-port"
    )


def require_free(wanted: Mapping[str, tuple[int, str]]) -> None:
    """Every port of name -> (port, flag) must be free, and each asked for once. All that are wrong are told at once."""
    wrong: list[ClusterAIError] = []
    taken = {port for port, _ in wanted.values() if not free(port)}
    holding = holders(taken) if taken else {}
    seen: dict[int, str] = {}
    for name, (port, flag) in wanted.items():
        if port in seen:
            what, remedy = f"port {port} is meant for {seen[port]} too", f"choose another with {flag}"
            wrong.append(UnavailableError(what, where=name, remedy=remedy))
        elif port in taken:
            what = f"port {port} is in use{f' by {holding[port]}' if port in holding else ''}"
            remedy = f"stop that program, or choose another port with {flag}"
            wrong.append(UnavailableError(what, where=name, remedy=remedy))
        seen.setdefault(port, name)
    if len(wrong) > 1:
        raise ErrorGroup(wrong)
    if wrong:
        raise wrong[0]


def holders(ports: Collection[int]) -> dict[int, str]:
    """The processes that listen there, as far as this user may know them; all in one look, which is long enough."""
    import psutil

    found: dict[int, str] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for it in psutil.net_connections("tcp"):
            if it.status == psutil.CONN_LISTEN and it.laddr and it.laddr.port in ports and it.pid is not None:
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    process = psutil.Process(it.pid)
                    words = " ".join(process.cmdline())[:80] or process.name()
                    found[it.laddr.port] = f"process {it.pid} ({words})"
    return found
