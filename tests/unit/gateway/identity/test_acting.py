"""Whom a service asks for: by its key and signature alone, and never as more than a user."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from cluster_ai.gateway.admission.keys import Keys
from cluster_ai.gateway.admission.people import People as Limited
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Header, Refusal
from cluster_ai.gateway.auth import Guard, credentials
from cluster_ai.gateway.identity.acting import People
from cluster_ai.gateway.identity.roles import ROLES, Role
from cluster_ai.gateway.identity.store import Account, Store

NOW = int(time.time())
TOKEN = "the cluster's own, of 64 digits in real life"


def said(key: str, email: str = "anna@example.org", algorithm: str | None = "HS256", **claims: Any) -> Header:
    """As Open WebUI 0.12 makes it (open_webui/utils/headers.py)."""
    whole = {
        "sub": "5b0c8f0e",
        "email": email,
        "name": "Boss",
        "role": "admin",
        "iss": "open-webui",
        "iat": NOW,
        "exp": NOW + 300,
        **claims,
    }
    payload = {name: value for name, value in whole.items() if value is not None}
    return b"x-openwebui-user-jwt", jwt.encode(payload, key, algorithm=algorithm).encode()


class Site:
    def __init__(self) -> None:
        self.keys, self.store = Keys(None), Store(None)
        self.service = self.key("open-webui", "service")
        people = People(self.store, self.keys, lambda: NOW)
        self.guard = Guard(TOKEN, ["10.0.0.0/8"], (), self.keys.user, people.person)

    def key(self, name: str, role: Role = "user", **more: Any) -> str:
        return self.keys.create(User(name, role=role, **more))[0]

    def add(self, user: User) -> None:
        self.store.add(Account(user, "", 0.0))

    def ask(self, key: str, *headers: Header, client: str = "203.0.113.9") -> User:
        bearer = [(b"authorization", b"Bearer " + key.encode())] if key else []
        return self.guard.check(credentials([(b"host", b"localhost"), *bearer, *headers]), client)


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_user_of_the_cluster_is_themselves_through_the_service(site: Site) -> None:
    anna = User("anna", 3, limits=Limits(60, None, 2), models=frozenset(("small:latest",)))
    site.add(anna)
    assert site.ask(site.service, said(site.service)) == anna


def test_who_has_a_key_is_that_one_in_whatever_letters(site: Site) -> None:
    site.key("Ben", limits=Limits(requests_per_minute=1))
    ben = site.ask(site.service, said(site.service, "ben@example.org"))
    assert (ben.name, ben.limits) == ("Ben", Limits(requests_per_minute=1))


@pytest.mark.parametrize("role", ROLES)
def test_nobody_is_more_than_a_user_by_a_service(site: Site, role: Role) -> None:
    site.add(User("anna", role=role))
    assert site.ask(site.service, said(site.service)).role == ("viewer" if role == "viewer" else "user")


@pytest.mark.parametrize("address", ["carl@example.org", "token@example.org", "anonymous@x", "open-webui@x"])
def test_others_are_users_by_their_whole_address(site: Site, address: str) -> None:
    assert site.ask(site.service, said(site.service, address)) == User(address)


@pytest.mark.parametrize("address", ["", "anna", "@example.org", "an na@x", "a@b@c", "a\n@x", "a" * 65 + "@x", 7])
def test_an_address_that_names_nobody_is_refused(site: Site, address: Any) -> None:
    with pytest.raises(Refusal) as caught:
        site.ask(site.service, said(site.service, address))
    assert caught.value.status == 403


@pytest.mark.parametrize("role", ROLES)
def test_what_others_say_of_whom_they_ask_for_is_nothing(site: Site, role: Role) -> None:
    site.add(User("anna"))
    key = site.key("mallory", role)
    assert site.ask(key, said(key)).name == "mallory"
    assert site.ask(TOKEN, said(TOKEN)).name == "token"
    assert site.ask("", said(key), client="10.1.2.3").name == "anonymous"


def test_unsigned_headers_arent_read(site: Site) -> None:
    site.add(User("anna"))
    plain = ((b"x-openwebui-user-email", b"anna@example.org"), (b"x-openwebui-user-name", b"anna"))
    asking = site.ask(site.service, *plain)
    assert (asking.name, asking.role) == ("open-webui", "service")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 31},
        {"iat": NOW + 31},
        {"iss": "another"},
        {"iss": None},
        {"exp": None},
        {"iat": None},
        {"email": None},
        {"exp": "soon"},
    ],
)
def test_what_isnt_good_now_is_refused(site: Site, claims: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        site.ask(site.service, said(site.service, **claims))
    assert (caught.value.status, caught.value.code) == (401, "invalid_person")


def test_a_signature_by_another_key_or_none_is_refused_and_says_what_to_set(site: Site) -> None:
    with pytest.raises(Refusal, match="FORWARD_USER_INFO_HEADER_JWT_SECRET"):
        site.ask(site.service, said(site.key("other", "service")))
    for forged in (
        said("", algorithm=None),
        (b"x-openwebui-user-jwt", b"nonsense"),
        (b"x-openwebui-user-jwt", b"\xff.a.b"),
    ):
        with pytest.raises(Refusal) as caught:
            site.ask(site.service, forged)
        assert caught.value.status == 401


def test_by_itself_a_service_sees_models_and_no_more(site: Site) -> None:
    service = site.ask(site.service)
    service.must_be_able("see", "models")
    for action, resource in (("use", "models"), ("see", "cluster"), ("see", "audit"), ("manage", "keys")):
        with pytest.raises(Refusal, match="only for someone"):
            service.must_be_able(action, resource)


def test_who_comes_by_two_ways_has_one_limit(site: Site) -> None:
    limits = Limits(requests_per_minute=2)
    site.add(User("anna", role="operator", limits=limits))
    people = Limited(Limits(), lambda: 0.0)
    ways = (User("anna", role="operator", limits=limits), site.ask(site.service, said(site.service)))
    for user in ways:
        person = people.find(user)
        assert person is not None
        person.enter(0.0)
    for user in ways:
        person = people.find(user)
        assert person is not None
        with pytest.raises(Refusal, match="2 requests a minute"):
            person.enter(0.0)
