"""On whose behalf a request runs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.roles import Role, allows, those_who_may


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
    models: canonical names of those that may be used; None: all.
    """

    name: str
    priority: int = 0
    role: Role = "user"
    source: str = ""
    limits: Limits | None = None
    models: frozenset[str] | None = None

    def may(self, action: str, resource: str) -> bool:
        return allows(self.role, action, resource)

    def must_be_able(self, action: str, resource: str) -> None:
        """Raises Refusal (403)."""
        if not self.may(action, resource):
            raise not_allowed(self, action, resource)

    def must_have(self, model: str) -> None:
        """model: canonical. Raises Refusal (403)."""
        if self.models is not None and model not in self.models:
            listed = ", ".join(sorted(self.models)) or "none"
            text = f"'{self.name}' may not use model '{model}', only: {listed}. An administrator can change that"
            raise Refusal(403, "model_not_allowed", text)


ANONYMOUS, TOKEN, OPEN_WEBUI = "anonymous", "token", "open-webui"
RESERVED = frozenset((ANONYMOUS, TOKEN))  # no key is named so
NOBODY = User(ANONYMOUS, role="viewer")  # before it is known who asks
TOKEN_USER = User(TOKEN, role="admin")  # has the cluster's own token
OPEN_WEBUI_USER = User(OPEN_WEBUI, role="service")  # the one that the cluster runs itself


def anonymous(address: str) -> User:
    """Someone in a trusted network. Whoever is on this very machine may administer, as with any tool of it."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return User(ANONYMOUS, source=address)
    local = getattr(found, "ipv4_mapped", None) or found
    return User(ANONYMOUS, role="admin" if local.is_loopback else "user", source=address)


def not_allowed(user: User, action: str, resource: str) -> Refusal:
    if user.role == "service":
        text = (
            f"'{user.name}' is a service, which may {action} {resource} only for someone: it must say who asks, signed"
        )
        return Refusal(403, "nobody_named", f"{text} with its key, as docs/open-webui.md tells")
    able = " or ".join(those_who_may(action, resource)) or "nobody's role"
    text = f"'{user.name}' has the role {user.role}, which may not {action} {resource}: that takes {able}."
    return Refusal(403, "role_required", f"{text} `cluster-ai roles` shows who may what; an administrator gives roles")
