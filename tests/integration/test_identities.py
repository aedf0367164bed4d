"""Users, roles, login tokens and the audit log, over HTTP: every route and role, two gateways as in a hand-over."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster_ai import layout
from cluster_ai.audit.file import AuditFile
from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.identity import roles
from cluster_ai.gateway.identity.roles import OPEN, ROLES, need_of
from tests.fakes import upstream as fake
from tests.integration.test_gateway_faults import Site, site
from tests.rig import cluster as rig

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"


async def status(here: Site, method: str, path: str, key: str) -> int:
    first, *gaps = path.split("{")
    url = first + "".join("nothing" + gap.partition("}")[2] for gap in gaps)
    headers = {"Authorization": f"Bearer {key}"}
    async with here.client.request(method, url, json={} if method != "GET" else None, headers=headers) as reply:
        await reply.read()
        return reply.status


async def test_every_route_is_open_to_the_roles_of_the_table_and_to_nobody_else() -> None:
    async with fake.upstream() as engine, site(engine) as here:
        keys = {role: here.books.keys.create(User(f"a-{role}", role=role))[0] for role in ROLES}
        walked = sorted(set(here.app.routes()))
        assert len(walked) > 60
        for method, path in walked:
            if path in OPEN:
                continue
            need = need_of(method, path)
            assert need is not None, f"{method} {path} has no entry in roles.py"
            assert await status(here, method, path, "cai-nobodys") == 401, (method, path)
            for role, key in keys.items():
                refused = await status(here, method, path, key) in (401, 403)
                assert refused is not roles.allows(role, need.action, need.resource), (method, path, role)
        assert not here.logged("no_role")


async def test_the_table_has_no_route_that_isnt_there() -> None:
    async with site() as here:
        assert set(roles.ROUTES) <= set(here.app.routes())


async def test_a_route_without_an_entry_is_refused_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here:
        admin = here.books.keys.create(User("boss", role="admin"))[0]
        for path in ("/api/tags", "/api/v1/cluster/status"):
            assert await status(here, "GET", path, admin) == 200
            monkeypatch.delitem(roles.ROUTES, ("GET", path))  # it is a dict
            assert await status(here, "GET", path, admin) == 403
        assert await status(here, "GET", "/api/v1/nothing", admin) == 404


@dataclass(frozen=True)
class Here:
    """Two gateways that share what they keep, as in a hand-over."""

    one: str
    two: str
    state: Path

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = rig.TOKEN,
        at: str = "",
        method: str = "",
        person: str = "",
    ) -> tuple[int, Any]:
        """Status, and the answer's JSON; None: it was empty. person: what a service says of who asks."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        headers |= {"X-OpenWebUI-User-Jwt": person} if person else {}
        request = urllib.request.Request((at or self.one) + path, data, headers, method=method or None)
        try:
            _, text = rig.fetch(request)
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())
        return 200, json.loads(text) if text else None

    def login(self, name: str, password: str = PASSWORD, at: str = "") -> dict[str, Any]:
        code, said = self.ask("/api/v1/login", {"user": name, "password": password}, token=None, at=at)
        assert code == 200, said
        return dict(said)

    def add(self, name: str, **more: Any) -> None:
        code, said = self.ask("/api/v1/users", {"name": name, "password": PASSWORD, **more})
        assert code == 200, said

    def signing_key(self) -> tuple[str, Ed25519PrivateKey]:
        with sqlite3.connect(self.state / "identity.sqlite") as kept:
            kid, private = kept.execute("SELECT kid, private FROM signing_keys ORDER BY begins").fetchone()
        kept.close()
        return kid, Ed25519PrivateKey.from_private_bytes(private)

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in AuditFile(self.state / "audit").after(0, 100_000)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("identities")
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / layout.GATEWAY_TOKEN).write_text(rig.TOKEN + "\n")
    one = rig.gateway_settings(scheduler="tcp://127.0.0.1:9")
    two = rig.gateway_settings(scheduler="tcp://127.0.0.1:9")
    state = folder / "one"
    with (
        rig.gateway(state, one, credentials, workers=0) as (first, _),
        rig.gateway(folder / "two", two, credentials, workers=0, state=state) as (second, _),
    ):
        yield Here(first, second, state)


def test_a_user_logs_in_and_is_who_they_are_at_both_gateways_until_logout(here: Here) -> None:
    here.add("anna", role="operator", models=["smollm2"])
    token = here.login("anna")["token"]
    for at in (here.one, here.two):
        code, said = here.ask("/api/v1/whoami", token=token, at=at)
        assert (code, said["name"], said["role"], said["models"]) == (200, "anna", "operator", ["smollm2:latest"])
    assert here.ask("/api/v1/users", token=token)[0] == 403
    assert here.ask("/api/v1/logout", {}, token=token, at=here.two)[0] == 200
    code, said = here.ask("/api/v1/whoami", token=token)
    assert (code, said["error"]["code"]) == (401, "invalid_token")
    assert "log in again" in said["error"]["message"]


def test_a_role_that_is_taken_away_is_gone_with_the_next_request(here: Here) -> None:
    here.add("carl", role="admin")
    token = here.login("carl")["token"]
    assert here.ask("/api/v1/users", token=token)[0] == 200
    assert here.ask("/api/v1/users/carl", {"role": "viewer"}, method="PATCH", at=here.two)[0] == 200
    assert here.ask("/api/v1/users", token=token)[0] == 403
    assert here.ask("/api/v1/users/carl", method="DELETE", at=here.two)[0] == 200
    assert here.ask("/api/v1/whoami", token=token)[0] == 401


def test_a_new_password_ends_all_logins(here: Here) -> None:
    here.add("dora")
    token = here.login("dora")["token"]
    assert here.ask("/api/v1/password", {"old": "another one", "new": PASSWORD + "!"}, token=token)[0] == 403
    assert here.ask("/api/v1/password", {"old": PASSWORD, "new": "short"}, token=token)[0] == 400
    assert here.ask("/api/v1/password", {"old": PASSWORD, "new": PASSWORD + "!"}, token=token)[0] == 200
    assert here.ask("/api/v1/whoami", token=token)[0] == 401
    here.login("dora", PASSWORD + "!")


def test_a_login_is_renewed_and_a_stolen_refresh_token_ends_it(here: Here) -> None:
    here.add("emil")
    first = here.login("emil")
    code, second = here.ask("/api/v1/login/refresh", {"refresh": first["refresh"]}, token=None, at=here.two)
    assert code == 200
    assert here.ask("/api/v1/whoami", token=second["token"])[0] == 200
    # its answer may have been lost: within a minute the last one works once more
    code, third = here.ask("/api/v1/login/refresh", {"refresh": first["refresh"]}, token=None)
    assert code == 200
    with sqlite3.connect(here.state / "identity.sqlite") as kept:
        kept.execute("UPDATE logins SET refreshed = refreshed - 3600")
    kept.close()
    assert here.ask("/api/v1/login/refresh", {"refresh": second["refresh"]}, token=None)[0] == 401
    assert here.ask("/api/v1/whoami", token=third["token"])[0] == 401
    assert here.ask("/api/v1/login/refresh", {"refresh": "car-guess"}, token=None)[0] == 401


def test_a_wrong_password_and_a_wrong_name_are_answered_alike_and_then_one_waits(here: Here) -> None:
    here.add("fred")
    said = {}
    for name in ("fred", "nobody-at-all"):
        answers = [
            here.ask("/api/v1/login", {"user": name, "password": "wrong password"}, token=None) for _ in range(8)
        ]
        assert [code for code, _ in answers][:5] == [401] * 5
        assert 429 in [code for code, _ in answers][5:]  # one that comes late enough is looked at again
        said[name] = answers[0][1]["error"]
    assert said["fred"] == said["nobody-at-all"]
    here.add("gina")
    here.login("gina")  # from the same address


FORGED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "expired": ({"exp": -300, "iat": -1200}, {}, "expired 5 min ago"),
    "another audience": ({"aud": "some-other-service"}, {}, "another audience"),
    "another issuer": ({"iss": "cluster-ai/other"}, {}, "another cluster"),
    "from the future": ({"iat": 420, "exp": 1320}, {}, "issued 7 min in the future"),
    "an unknown key": ({}, {"kid": "0123456789abcdef"}, "a key that this cluster doesn't have"),
    "without a login": ({"sid": "ffffffffffffffffffffffff"}, {}, "its login has ended"),
    "of someone else": ({"sub": "token"}, {}, "its login has ended"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_token_that_isnt_as_it_must_be_is_refused_and_told_why(here: Here, name: str) -> None:
    kid, key = here.signing_key()
    claims = claims_of(here)
    changed, header, why = FORGED[name]
    now = int(time.time())
    claims |= {k: now + v if isinstance(v, int) else v for k, v in changed.items()}
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid, **header})
    code, said = here.ask("/api/v1/whoami", token=token)
    assert code == 401
    assert why in said["error"]["message"]


def test_a_clock_that_is_off_is_named_with_both_times(here: Here) -> None:
    kid, key = here.signing_key()
    ahead = int(time.time()) + 600
    token = jwt.encode(claims_of(here) | {"iat": ahead, "exp": ahead + 900}, key, "EdDSA", headers={"kid": kid})
    message = here.ask("/api/v1/whoami", token=token)[1]["error"]["message"]
    assert "One of the two clocks is wrong" in message
    assert "timedatectl" in message


def test_a_token_without_a_signature_or_with_another_is_refused(here: Here) -> None:
    kid, _ = here.signing_key()
    claims = claims_of(here)
    public = jwt.PyJWK(here.ask("/.well-known/jwks.json", token=None)[1]["keys"][0])
    foreign = Ed25519PrivateKey.generate()
    raw = public.key.public_bytes_raw()
    forged = [
        jwt.encode(claims, "", algorithm="none", headers={"kid": kid}),
        jwt.encode(claims, foreign, algorithm="EdDSA", headers={"kid": kid}),
        jwt.encode(claims, raw, algorithm="HS256", headers={"kid": kid}),  # the public key as a secret
    ]
    real = str(here.login("hans")["token"])
    head, body, signature = real.split(".")
    forged += [f"{head}.{body}.", f"{head}.{body[:-2]}AA.{signature}", f"{head}.{body}", "ey.ey.ey", "eyJ9..x"]
    for token in forged:
        assert here.ask("/api/v1/whoami", token=token)[0] == 401, token
    assert here.ask("/api/v1/whoami", token=real)[0] == 200


def test_the_jwks_verifies_what_the_gateway_signs(here: Here) -> None:
    here.add("ida")
    token = here.login("ida")["token"]
    code, said = here.ask("/.well-known/jwks.json", token=None)
    assert code == 200
    assert "d" not in said["keys"][0]
    kid = jwt.get_unverified_header(token)["kid"]
    key = next(key for key in jwt.PyJWKSet.from_dict(said).keys if key.key_id == kid)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="cluster-ai-gateway", issuer="cluster-ai/rig")
    assert (claims["sub"], claims["role"]) == ("ida", "user")


def claims_of(here: Here) -> dict[str, Any]:
    if here.ask("/api/v1/users/hans/logins", method="DELETE")[0] == 404:
        here.add("hans")
    return dict(jwt.decode(here.login("hans")["token"], options={"verify_signature": False}))


def test_what_was_done_stands_in_the_log_when_the_answer_is_there_and_no_secret_does(here: Here) -> None:
    here.add("jane")
    secret = here.ask("/api/v1/keys", {"name": "robot", "role": "operator", "days": 30})[1]["key"]
    tokens = here.login("jane", at=here.two)
    here.ask("/api/v1/login", {"user": "my password by mistake", "password": "x"}, token=None)
    here.ask("/api/v1/keys", {"name": "mine"}, token=tokens["token"])
    here.ask("/api/v1/whoami", token="cai-someones-old-key")
    here.ask("/api/v1/keys/robot", method="DELETE", at=here.two)
    told = [(line["who"], line["what"], line["on"], line["result"], line["note"]) for line in here.audited()]
    assert ("token", "users.manage", "jane", "done", "create, role user") in told
    assert ("token", "keys.manage", "robot", "done", "create, role operator") in told
    assert ("token", "keys.manage", "robot", "done", "revoke") in told
    assert ("jane", "account.login", "", "done", "") in told
    assert ("unknown", "account.login", "", "refused", "") in told
    assert any(line[:2] == ("jane", "keys.manage") and line[3] == "refused" for line in told)
    assert any(line[:2] == ("unknown", "token.refused") for line in told)
    assert all(line["address"] == "127.0.0.1" and line["request"] for line in here.audited())
    everything = b"".join(path.read_bytes() for path in here.state.rglob("audit*") if path.is_file())
    for planted in (PASSWORD, secret, tokens["token"], tokens["refresh"], "my password by mistake", rig.TOKEN):
        assert planted.encode() not in everything


def test_the_log_is_an_administrators_to_read_and_a_tampered_line_is_found(here: Here) -> None:
    here.add("kim")
    assert here.ask("/api/v1/audit", token=here.login("kim")["token"])[0] == 403
    code, said = here.ask("/api/v1/audit?last=true&limit=5")
    assert (code, said["good"], len(said["lines"])) == (200, True, 5)
    path = here.state / "audit" / "audit.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"who":"kim"', '"who":"joe"'))
    try:
        said = here.ask("/api/v1/audit?last=true&limit=5")[1]
        assert not said["good"]
        assert "was changed" in said["problem"]
    finally:
        path.write_text(whole)
    assert here.ask("/api/v1/audit")[1]["good"]


def test_who_asks_through_a_service_is_who_acts_and_the_audit_log_names_both(here: Here) -> None:
    here.add("otto", role="admin")
    service = here.ask("/api/v1/keys", {"name": "webui", "role": "service"})[1]["key"]
    times = {"iat": int(time.time()), "exp": int(time.time()) + 300}
    otto = jwt.encode({"iss": "open-webui", "email": "otto@example.org", **times}, service, algorithm="HS256")
    for at in (here.one, here.two):
        code, said = here.ask("/api/v1/whoami", token=service, person=otto, at=at)
        assert (code, said["name"], said["role"]) == (200, "otto", "user")
    assert here.ask("/api/v1/keys", {"name": "more"}, token=service, person=otto)[0] == 403
    assert ("otto", "keys.manage", "refused", "asked by webui") in {
        (line["who"], line["what"], line["result"], line["note"]) for line in here.audited()
    }
    code, said = here.ask("/api/chat", {"model": "any"}, token=service)
    assert (code, "only for someone" in said["error"]) == (403, True)
    forged = jwt.encode({"iss": "open-webui", "email": "otto@example.org", **times}, "x" * 32, algorithm="HS256")
    assert here.ask("/api/v1/whoami", token=service, person=forged)[0] == 401
    here.add("eve")
    assert here.ask("/api/v1/whoami", token=here.login("eve")["token"], person=otto)[1]["name"] == "eve"
    assert here.ask("/api/v1/users/eve", {"role": "service"}, method="PATCH")[0] == 400  # no person is one
