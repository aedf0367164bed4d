"""On whose behalf a request runs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user may take; None: as much as there is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """name stands in usage and logs. Of those that wait, a higher priority goes first.

    source tells apart users who share a name: requests without a key, by their address. limits: None: the cluster's.
    """

    name: str
    priority: int = 0
    admin: bool = False
    source: str = ""
    limits: Limits | None = None


ANONYMOUS, TOKEN = "anonymous", "token"
RESERVED = frozenset((ANONYMOUS, TOKEN))  # no key is named so
NOBODY = User(ANONYMOUS)  # before it is known who asks
TOKEN_USER = User(TOKEN, admin=True)  # has the cluster's own token


def anonymous(address: str) -> User:
    """Someone in a trusted network. Whoever is on this very machine may administer, as with any tool of it."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return User(ANONYMOUS, source=address)
    local = getattr(found, "ipv4_mapped", None) or found
    return User(ANONYMOUS, admin=local.is_loopback, source=address)


def must_administer(user: User) -> None:
    """Raises Refusal (403) for one who may only use the cluster."""
    if not user.admin:
        text = f"'{user.name}' may not administer the cluster; use the cluster's token, or a key made with --admin"
        raise Refusal(403, "admin_required", text)
