"""A socket for people, for what serves pages."""

from __future__ import annotations

import errno
import socket

from cluster_ai.errors import UnavailableError


def listen(address: str, port: int, key: str) -> socket.socket:
    """At `::` for IPv4 too, as far as this machine has both. key: the port's in cluster.yaml.

    Raises UnavailableError.
    """
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, dualstack_ipv6=six and socket.has_dualstack_ipv6())
    except OSError as error:
        remedies = {
            errno.EADDRINUSE: f"see what holds it with `ss -ltnp`, or set {key}",
            errno.EACCES: f"set {key} to one above 1023: the others are root's",
        }
        raise UnavailableError(
            f"can't listen there: {error.strerror}",
            where=f"{address}:{port}",
            remedy=remedies.get(error.errno or 0, "see this host's addresses with `ip address`"),
        ) from error
