"""For whom a service asks: it says so with each request, in a JWT as Open WebUI makes them.

It is signed with the service's own key, by which the request came, so that a header that somebody else got into a
request of the service's counts for nothing, and one that was seen is good for minutes. Unsigned headers aren't read.

A person is known by the address that they have at the service, which is therefore to be given by its administrator or
a provider: what stands before the @ is their name here. As the service vouches for them, and no password, nobody is
more than a user by it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jwt

from cluster_ai.gateway.admission.keys import Keys
from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.roles import ROLES, SERVICE, Rank
from cluster_ai.gateway.identity.store import Store
from cluster_ai.gateway.identity.tokens import LEEWAY

HEADER = b"x-openwebui-user-jwt"
_ISSUER, _ALGORITHM = "open-webui", "HS256"
_MOST: Rank = "user"
_ADDRESS = re.compile(r"[^\s@\x00-\x20\x7f]{1,64}@[^\s@\x00-\x20\x7f]{1,189}")


@dataclass(frozen=True, slots=True)
class People:
    """Those whom services may ask for: everybody. Who is a user here, or has a key, is that one; anybody else is a user
    by their whole address, which is no name that can be given here, with the limits that everybody has.
    """

    store: Store
    keys: Keys
    clock: Callable[[], float] = time.time

    def person(self, token: bytes, key: bytes) -> User:
        """key: the service's. Raises Refusal: 401 for a token that isn't good, 403 for an address that names nobody."""
        address = address_of(token, key, self.clock())
        known = self._known(address.partition("@")[0].lower())
        if known is None:
            return User(address)
        return replace(known, role=min(known.role, _MOST, key=ROLES.index))

    def _known(self, name: str) -> User | None:
        """The first by that name, in whatever letters: Open WebUI makes all small."""
        accounts = (account.user for account in self.store.accounts())
        keys = (key.user for key in self.keys.list() if key.user.role != SERVICE)
        return next((user for users in (accounts, keys) for user in users if user.name.lower() == name), None)


def address_of(token: bytes, key: bytes, now: float) -> str:
    """Raises Refusal (401, 403)."""
    try:
        said: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={"require": ["exp", "iat", "iss", "email"], "verify_exp": False, "verify_iat": False},
        )
        address, begins, ends = str(said["email"]), float(said["iat"]), float(said["exp"])
    except jwt.InvalidSignatureError as error:
        text = "it isn't signed with the key that came with it: FORWARD_USER_INFO_HEADER_JWT_SECRET must be that key"
        raise _refused(text) from error
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise _refused(f"it can't be read: {error}") from error
    if not begins - LEEWAY <= now < ends + LEEWAY:
        raise _refused(f"it is good from {begins:.0f} to {ends:.0f}, and this gateway's clock says {now:.0f}")
    if not _ADDRESS.fullmatch(address):
        raise Refusal(
            403, "no_name", f"the service asks for someone whose e-mail address names nobody: {address[:80]!r}"
        )
    return address


def _refused(why: str) -> Refusal:
    return Refusal(401, "invalid_person", f"what the service says of who asks is refused: {why}")
