"""A provider whose keys change, and servers that are none."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jwt.jwks_client
import pytest

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.oidc import METADATA, Person, Provider
from cluster_ai.settings import Given, OidcSettings
from tests.rig import openid

KEY = openid.new_key()
PERSON: dict[str, Any] = {"sub": "1001", "preferred_username": "anna", "groups": ["students"]}


def provider(issuer: str) -> Provider:
    roles = (Given("user", ("students",)),)
    return Provider(OidcSettings(issuer, "dashboard", "cli", "preferred_username", "groups", roles, 3600.0))


async def test_a_key_that_the_provider_changed_is_fetched_but_not_for_everybody_who_sends_what_they_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(jwt.jwks_client, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with openid.provider() as there:
        it = provider(there.issuer)
        anna = Person(f"{there.issuer} 1001", "anna", "user")
        assert await it.person(there.token("cli", **PERSON)) == anna
        there.key, there.kid = openid.new_key(), "two"
        asked = len(there.asked)
        with pytest.raises(Refusal) as refused:
            await it.person(there.token("cli", **PERSON))
        assert (refused.value.status, len(there.asked)) == (401, asked)
        now[0] += 31
        assert await it.person(there.token("cli", **PERSON)) == anna


class Server(socketserver.ThreadingTCPServer):
    """Says the same to everybody, except its metadata where it has some."""

    says = b""
    metadata = b""


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        path = self.rfile.readline().decode().split()[1]
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.server.metadata if path == METADATA and self.server.metadata else self.server.says)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as it:
        thread = threading.Thread(target=it.serve_forever)
        thread.start()
        yield it
        it.shutdown()
        thread.join()


def http(body: str) -> bytes:
    return f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize(
    "says",
    [
        http("<html>Sign in to the guests' network</html>"),
        http("{}"),
        http("[]"),
        http('{"keys": [1]}'),
        http('{"keys": []}'),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["html", "empty", "list", "no key", "no keys", "no HTTP", "nothing"],
)
async def test_a_provider_that_answers_something_else_is_away(server: Server, says: bytes, metadata: bool) -> None:
    issuer = f"http://127.0.0.1:{server.server_address[1]}"
    server.says = says
    if metadata:
        server.metadata = http(json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys"}))
    token = openid.Provider(issuer, key=KEY).token("cli", **PERSON)
    with pytest.raises(Refusal) as refused:
        await provider(issuer).person(token)
    assert (refused.value.status, refused.value.code) == (503, "provider_away")
    assert "can't be asked for its keys: " in str(refused.value)
