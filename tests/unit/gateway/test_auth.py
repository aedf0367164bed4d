"""Who is let in."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api.http import Header, Refusal
from cluster_ai.gateway.auth import Guard, credentials, key_from_path

HERE = (b"host", b"127.0.0.1:11435")
GUARD = Guard("secret", ["127.0.0.0/8", "::1/128", "10.1.0.0/16"], ["head.cluster.ai"])


def refused(guard: Guard, client: str, *headers: Header) -> int | None:
    try:
        guard.check(credentials(headers), client)
    except Refusal as refusal:
        return refusal.status
    return None


def test_a_good_token_is_enough_from_anywhere() -> None:
    assert refused(GUARD, "203.0.113.9", (b"authorization", b"Bearer secret"), (b"host", b"evil.example")) is None
    assert refused(GUARD, "203.0.113.9", (b"authorization", b"bearer  secret")) is None


@pytest.mark.parametrize("given", [b"Bearer wrong", b"Bearer ", b"Basic secret", b"secret", b"Bearer secret2", b"\xff"])
def test_a_bad_token_is_refused_even_from_a_trusted_network(given: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", (b"authorization", given), HERE) == 401


def test_no_token_is_refused_from_elsewhere_and_says_how() -> None:
    with pytest.raises(Refusal) as caught:
        GUARD.check(credentials([HERE]), "192.0.2.1")
    assert caught.value.status == 401
    assert dict(caught.value.headers)[b"www-authenticate"].startswith(b"Bearer")


def test_an_empty_token_lets_nobody_in_by_token() -> None:
    guard = Guard("", ["127.0.0.0/8"])
    assert refused(guard, "192.0.2.1", (b"authorization", b"Bearer ")) == 401
    assert refused(guard, "127.0.0.1", HERE) is None


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "::ffff:10.1.2.3"])
def test_a_trusted_network_needs_no_token(client: str) -> None:
    assert refused(GUARD, client, HERE) is None


@pytest.mark.parametrize("client", ["", "10.2.0.1", "::2", "not an address", "fe80::1%eth0"])
def test_other_addresses_are_not_trusted(client: str) -> None:
    assert refused(GUARD, client, HERE) == 401


@pytest.mark.parametrize("header", [b"x-forwarded-for", b"forwarded"])
def test_a_proxy_on_a_trusted_address_does_not_lend_its_trust(header: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", HERE, (header, b"203.0.113.9")) == 401


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:11435",
        b"app.localhost:3000",
        b"127.0.0.1",
        b"10.1.2.3:11435",
        b"[::1]:11435",
        b"head.cluster.ai:11435",
        b"head:11435",
        socket.gethostname().encode() + b":11435",
    ],
)
def test_names_that_can_only_be_this_machine_are_answered_without_a_token(host: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", (b"host", host)) is None


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:11435", b"127.0.0.1.evil.example", b"localhost.evil.example"]
)
def test_a_rebound_name_is_refused(host: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", (b"host", host)) == 403


@pytest.mark.parametrize(
    "origin", [b"http://127.0.0.1:11435", b"http://localhost:3000", b"https://app.localhost", b"http://[::1]:8501"]
)
def test_pages_of_this_machine_may_ask(origin: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", HERE, (b"origin", origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"",
        b"file://",
        b"http://10.1.2.3",
        b"http://[",
        b"chrome-extension://x",
        b"\xff",
    ],
)
def test_pages_of_others_may_not(origin: bytes) -> None:
    expected = None if origin == b"" else 403
    assert refused(GUARD, "127.0.0.1", HERE, (b"origin", origin)) == expected


def test_a_page_may_ask_the_host_that_it_came_from() -> None:
    headers = ((b"host", b"10.1.0.1:8501"), (b"origin", b"http://10.1.0.1:8501"))
    assert refused(GUARD, "10.1.2.3", *headers) is None


@given(host=st.binary(), origin=st.binary(), authorization=st.binary(), client=st.text())
def test_no_header_breaks_it(host: bytes, origin: bytes, authorization: bytes, client: str) -> None:
    headers = ((b"host", host), (b"origin", origin), (b"authorization", authorization))
    assert refused(GUARD, client, *headers) in (None, 401, 403)
    assert refused(GUARD, "127.0.0.1", (b"host", host), (b"origin", origin)) in (None, 403)


@pytest.mark.parametrize(
    ("client", "admin"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.1.2.3", False)]
)
def test_without_a_token_one_is_anonymous_and_administers_from_this_machine_alone(client: str, admin: bool) -> None:
    user = GUARD.check(credentials([HERE]), client)
    assert (user.name, user.source, user.role) == ("anonymous", client, "admin" if admin else "user")


def test_the_clusters_token_administers() -> None:
    user = GUARD.check(credentials([(b"authorization", b"Bearer secret")]), "203.0.113.9")
    assert (user.name, user.role) == ("token", "admin")


@pytest.mark.parametrize(
    ("path", "raw", "rest", "raw_rest"),
    [
        ("/k/secret/api/tags", b"/k/secret/api/tags", "/api/tags", b"/api/tags"),
        ("/k/secret//v1/models/a b", b"/k/s%65cret//v1/models/a%20b", "/v1/models/a b", b"/v1/models/a%20b"),
        ("/k/secret/", b"/k/secret/", "/", b"/"),
        ("/k/secret", b"/k/secret", "/", b"/"),
    ],
)
def test_a_key_in_the_path_counts_as_a_header_and_is_gone_from_the_path(
    path: str, raw: bytes, rest: str, raw_rest: bytes
) -> None:
    asked = credentials([(b"authorization", b"Bearer what the client always sends")])
    scope, found = key_from_path({"path": path, "raw_path": raw, "method": "GET"}, asked)
    assert (found, scope["path"], scope["raw_path"]) == (rest, rest, raw_rest)
    assert GUARD.check(asked, "203.0.113.9").role == "admin"  # from anywhere
    assert "secret" not in str(scope)


@pytest.mark.parametrize("path", ["/k/wrong/api/tags", "/k//api/tags", "/k/", "/k/secret%2Fx/api/tags"])
def test_a_bad_key_in_the_path_is_refused_even_from_a_trusted_network(path: str) -> None:
    asked = credentials([HERE])
    key_from_path({"path": path}, asked)
    with pytest.raises(Refusal):
        GUARD.check(asked, "127.0.0.1")


def test_anthropics_clients_send_their_key_under_another_name() -> None:
    assert refused(GUARD, "203.0.113.9", (b"x-api-key", b"secret")) is None
    assert refused(GUARD, "203.0.113.9", (b"x-api-key", b"wrong")) == 401
    assert refused(GUARD, "203.0.113.9", (b"x-api-key", b"wrong"), (b"authorization", b"Bearer secret")) is None


@pytest.mark.parametrize("given", [b"Bearer unused", b"Bearer ollama", b"bearer None"])
def test_what_clients_send_that_must_send_something_is_no_credential(given: bytes) -> None:
    assert refused(GUARD, "127.0.0.1", (b"authorization", given), HERE) is None
    assert refused(GUARD, "203.0.113.9", (b"authorization", given), HERE) == 401
