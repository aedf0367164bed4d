"""Who may ask: a bearer token, or an address in a trusted network.

An address proves nothing when a browser stands on it: any web page can make the browser on a trusted machine send
requests there, and a page whose name is re-pointed to a trusted address (DNS rebinding) can read the answers too. So
a request without a token must name this host in a way that no other page can (an address, localhost, this machine's
own name), and, where it says which page it comes from, come from here or from this machine.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from cluster_ai.addresses import is_address, is_loopback
from cluster_ai.gateway.admission.users import OPEN_WEBUI_USER, TOKEN_USER, User, anonymous
from cluster_ai.gateway.api.http import Header, Refusal, Scope
from cluster_ai.gateway.identity.acting import HEADER
from cluster_ai.gateway.identity.roles import ACT_FOR_OTHERS

KEY_IN_PATH = "/k/"
# What clients are customarily told to send where no key is asked for: says nothing, so it isn't held against them.
_PLACEHOLDERS = frozenset(
    b"bearer " + word
    for word in (b"none", b"unused", b"ollama", b"empty", b"dummy", b"not-needed", b"no-key", b"sk-no-key-required")
)
_UNAUTHORIZED = (b"www-authenticate", b'Bearer realm="cluster-ai"')


@dataclass(slots=True)
class Credentials:
    """What a request says of itself; from one pass over its headers."""

    authorization: bytes = b""
    host: bytes = b""
    origin: bytes = b""
    request_id: bytes = b""
    api_key: bytes = b""  # as Anthropic's clients send theirs
    in_path: bool = False  # its key stood in the path
    policy: bytes = b""
    worker: bytes = b""
    forwarded: bool = False
    person: bytes = b""  # for whom a service asks
    service: str = ""  # the service's name, once it is known that one asks for somebody


def credentials(headers: Iterable[Header]) -> Credentials:
    found = Credentials()
    for name, value in headers:
        if name == b"host":
            found.host = value
        elif name == b"authorization":
            found.authorization = value
        elif name == b"origin":
            found.origin = value
        elif name == b"x-request-id":
            found.request_id = value
        elif name == b"x-api-key":
            found.api_key = value
        elif name == b"x-cluster-policy":
            found.policy = value
        elif name == b"x-cluster-worker":
            found.worker = value
        elif name in (b"x-forwarded-for", b"forwarded"):
            found.forwarded = True
        elif name == HEADER:
            found.person = value
    if found.api_key and not found.authorization:
        found.authorization = b"Bearer " + found.api_key
    if found.authorization.lower() in _PLACEHOLDERS:
        found.authorization = b""
    return found


def key_from_path(scope: Scope, asked: Credentials) -> tuple[Scope, str]:
    """The request as if its key, the first part of a path below KEY_IN_PATH, had come in the header; and its path.

    It counts before a header: some clients always send one. The scope that came is not used any more: nothing after
    this sees the key in a path, nor writes it to a log.
    """
    key, _, rest = scope["path"].removeprefix(KEY_IN_PATH).partition("/")
    raw = (scope.get("raw_path") or b"").split(b"/", 3)
    asked.authorization, asked.in_path = b"Bearer " + key.encode(), True
    path = "/" + rest.lstrip("/")
    return {**scope, "path": path, "raw_path": b"/" + (raw[3].lstrip(b"/") if len(raw) > 3 else b"")}, path


class Guard:
    """Decides. An empty token lets nobody in by token."""

    def __init__(
        self,
        token: str,
        trusted_networks: Iterable[str],
        names: Iterable[str] = (),
        key_of: Callable[[bytes], User | None] = lambda secret: None,
        person_of: Callable[[bytes, bytes], User] | None = None,
        open_webui: str = "",
    ) -> None:
        """key_of: whose key or token it is, if anyone's; raises Refusal where it can say why not. person_of: for whom
        a service asks, by what it says and its key; likewise. open_webui: the key of the cluster's own; empty: there is
        none.
        """
        self._token, self._open_webui = token.encode(), open_webui.encode()
        self._key_of, self._person_of = key_of, person_of
        self._networks = tuple(ipaddress.ip_network(n, strict=False) for n in trusted_networks)
        own = {socket.gethostname().lower(), "localhost", *(n.lower() for n in names)}
        self._names = frozenset(own | {n.split(".")[0] for n in own if not is_address(n)})
        self._trusted = lru_cache(maxsize=4096)(self._in_networks)

    def check(self, asked: Credentials, client: str) -> User:
        """Who asks. Raises Refusal: 401 without a good token, 403 for a browser that speaks for another page."""
        if asked.authorization:
            scheme, _, given = asked.authorization.partition(b" ")
            if scheme.lower() == b"bearer":
                secret = given.strip()
                if self._token and hmac.compare_digest(secret, self._token):
                    return TOKEN_USER
                if self._open_webui and hmac.compare_digest(secret, self._open_webui):
                    return self._for_whom(OPEN_WEBUI_USER, asked, secret)
                user = self._key_of(secret)
                if user is not None:
                    return self._for_whom(user, asked, secret)
            raise _invalid(asked)
        user = None if asked.forwarded else self._trusted(client)
        if user is None:
            raise Refusal(
                401, "unauthorized", "a bearer token is required: Authorization: Bearer <token>", [_UNAUTHORIZED]
            )
        host = _hostname(asked.host)
        if asked.host and not self._is_own(host):
            text = f"host '{host}' is not this gateway's name or address; without a token only those are answered"
            raise Refusal(403, "forbidden_host", text)
        if asked.origin and not self._same_origin(asked):
            raise Refusal(403, "forbidden_origin", "pages of other origins need a bearer token here")
        return user

    def _for_whom(self, user: User, asked: Credentials, key: bytes) -> User:
        """Of others than services, what they say of that is nothing."""
        if not asked.person or self._person_of is None or not user.may(*ACT_FOR_OTHERS):
            return user
        asked.service = user.name
        return self._person_of(asked.person, key)

    def _in_networks(self, client: str) -> User | None:
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return None
        mapped = getattr(address, "ipv4_mapped", None)
        return anonymous(client) if any((mapped or address) in network for network in self._networks) else None

    def _is_own(self, host: str) -> bool:
        return host in self._names or host.endswith(".localhost") or is_address(host)

    @staticmethod
    def _same_origin(asked: Credentials) -> bool:
        try:
            origin = urlsplit(asked.origin.decode("latin-1").lower())
            host = origin.hostname or ""
        except ValueError:
            return False
        if origin.scheme not in ("http", "https") or not host:
            return False
        if origin.netloc == asked.host.decode("latin-1").lower():
            return True
        return is_loopback(host) or host.endswith(".localhost")


def _invalid(asked: Credentials) -> Refusal:
    if asked.in_path:  # of a 401 the ollama CLI shows no text
        return Refusal(403, "unauthorized", "the key in the path is not valid: the address is http://<host>/k/<key>")
    return Refusal(401, "unauthorized", "the bearer token is not valid", [_UNAUTHORIZED])


def _hostname(host: bytes) -> str:
    """Host header without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() and ":" in text else text
