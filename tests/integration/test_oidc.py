"""People log in by an OpenID provider: a real one, small, with tokens that are really signed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.audit.file import AuditFile
from cluster_ai.settings import Given, OidcSettings
from cluster_ai.tls.public import Public
from tests.rig import cluster as rig
from tests.rig.openid import Provider, new_key, provider
from tests.rig.processes import PATIENCE, until

pytestmark = pytest.mark.integration

ROLES = (Given("viewer", ()), Given("user", ("students", "staff")), Given("operator", ()), Given("admin", ("it",)))
_ADDRESSES = itertools.count(1)
ANNA = {"sub": "1001", "preferred_username": "anna", "groups": ["students"]}


@dataclass(frozen=True)
class Here:
    url: str
    state: Path
    provider: Provider
    roots: Path

    def ask(
        self, path: str, body: Any = None, *, token: str = "", method: str | None = None, address: str = ""
    ) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        headers |= {"X-Forwarded-For": address} if address else {}
        data = json.dumps(body).encode() if body is not None else None
        try:
            _, text = rig.fetch(urllib.request.Request(self.url + path, data, headers, method=method))
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        return 200, json.loads(text) if text else None

    def login(self, id_token: str, address: str = "") -> tuple[int, Any]:
        """address: that the dashboard tells of; by default nobody else's, since bad tokens of one are slowed down."""
        return self.ask("/api/v1/login/oidc", {"id_token": id_token}, address=address or f"10.0.0.{next(_ADDRESSES)}")

    def refused(self, id_token: str) -> str:
        code, said = self.login(id_token)
        assert code in (401, 403, 409), said
        return str(said["error"]["message"])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder, authority = tmp_path_factory.mktemp("oidc"), rig.authority()
    keys = authority.credentials(folder / "keys", "provider", "head", token=rig.TOKEN)
    (folder / "root.pem").write_bytes(authority.pair.cert)
    with pytest.MonkeyPatch.context() as patch, provider(Public(keys / layout.CERT, keys / layout.KEY)) as openid:
        patch.setenv("SSL_CERT_FILE", str(folder / "root.pem"))
        told = rig.gateway_settings(
            scheduler="tcp://127.0.0.1:9",
            oidc=OidcSettings(openid.issuer, "dashboard", "cli", "preferred_username", "groups", ROLES, 3600.0),
        )
        with rig.gateway(folder / "gateway", told, keys, workers=0) as (url, _):
            yield Here(url, folder / "gateway", openid, folder / "root.pem")


@pytest.fixture(autouse=True)
def person(here: Here) -> None:
    here.provider.claims = dict(ANNA)


@pytest.mark.parametrize("client", ["dashboard", "cli"])
def test_whom_the_provider_vouches_for_is_logged_in_with_the_role_of_their_group(here: Here, client: str) -> None:
    code, said = here.login(here.provider.token(client))
    assert (code, said["user"], said["role"]) == (200, "anna", "user")
    assert here.ask("/api/v1/whoami", token=said["token"])[1]["name"] == "anna"
    again = here.ask("/api/v1/login/refresh", {"refresh": said["refresh"]})
    assert again[0] == 200
    users = {it["name"]: it for it in here.ask("/api/v1/users", token=rig.TOKEN)[1]["users"]}
    assert users["anna"]["oidc"] is True


def test_the_role_follows_the_provider_at_the_next_login(here: Here) -> None:
    assert here.login(here.provider.token("cli", groups=["students", "it"]))[1]["role"] == "admin"
    assert here.login(here.provider.token("cli", groups="staff"))[1]["role"] == "user"


def test_without_a_group_that_gives_a_role_nobody_gets_in(here: Here) -> None:
    said = here.refused(here.provider.token("cli", groups=["guests"]))
    assert "'anna' has no role here: the claim groups has guests" in said
    assert "has nothing" in here.refused(here.provider.token("cli", groups=None))


def test_a_token_that_is_not_for_here_or_not_the_providers_is_refused_and_told_why(here: Here) -> None:
    it, now = here.provider, int(time.time())
    assert "another program" in here.refused(it.token("somebody-elses"))
    assert "another program, too" in here.refused(it.token(["cli", "other"]))
    assert "expired 10 min ago" in here.refused(it.token("cli", iat=now - 900, exp=now - 600))
    assert "in the future" in here.refused(it.token("cli", iat=now + 600, exp=now + 900))
    assert "isn't from" in here.refused(it.token("cli", iss="https://elsewhere.test"))
    assert "didn't sign it" in here.refused(it.token("cli", key=new_key()))
    assert "didn't sign it" in here.refused(it.token("cli", key="x" * 32, alg="HS256"))
    unsigned = it.token("cli").rpartition(".")[0] + "."
    assert "didn't sign it" in here.refused(unsigned)
    assert here.login("nonsense")[0] == 401


def test_bad_tokens_of_one_address_are_slowed_down_and_hinder_nobody_else(here: Here) -> None:
    stranger = "10.9.9.9"
    assert 429 in [here.login(f"nonsense {number}", stranger)[0] for number in range(8)]
    assert here.login(here.provider.token("cli"))[0] == 200
    until(lambda: here.login(here.provider.token("cli"), stranger)[0] == 200)


def test_a_name_belongs_to_whom_it_was_first_and_users_with_passwords_keep_theirs(here: Here) -> None:
    assert here.login(here.provider.token("cli"))[0] == 200
    assert "someone else's name" in here.refused(here.provider.token("cli", sub="2002"))
    body = {"name": "carl", "password": "correct horse battery"}
    assert here.ask("/api/v1/users", body, token=rig.TOKEN)[0] == 200
    carl = here.provider.token("cli", sub="3003", preferred_username="carl@school.test")
    assert "'carl' is someone else's name" in here.refused(carl)
    assert here.ask("/api/v1/users/carl", token=rig.TOKEN, method="DELETE")[0] == 200
    assert here.login(carl)[1]["user"] == "carl"
    assert here.ask("/api/v1/users/carl", {"password": "another good one"}, token=rig.TOKEN, method="PATCH")[0] == 409
    assert here.ask("/api/v1/login", {"user": "carl", "password": ""})[0] == 401
    assert here.ask("/api/v1/keys", {"name": "nightly-report"}, token=rig.TOKEN)[0] == 200
    robot = here.provider.token("cli", sub="5", preferred_username="nightly-report")  # a key is a person of that name
    assert "'nightly-report' is someone else's name" in here.refused(robot)
    assert "no name for here" in here.refused(here.provider.token("cli", sub="4", preferred_username="a b"))


def test_the_audit_log_tells_who_came_and_who_was_refused(here: Here) -> None:
    here.login(here.provider.token("cli"))
    here.refused(here.provider.token("cli", groups=[]))
    lines = [json.loads(text) for text in AuditFile(here.state / "audit").after(0, 100_000)][-2:]
    assert [(it["who"], it["what"], it["result"]) for it in lines] == [
        ("anna", "account.login", "done"),
        ("unknown", "account.login", "refused"),
    ]
    assert "has no role" in lines[1]["note"]


def command(here: Here, home: Path, *words: str, browser: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home),
        "SSL_CERT_FILE": str(here.roots),
        "BROWSER": browser,
    }
    return subprocess.run(
        [sys.executable, "-m", "cluster_ai", *words, "--gateway", here.url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_logs_in_by_a_browser_and_others_ask_in_that_name(here: Here, tmp_path: Path) -> None:
    browser = f"curl --silent --location --cacert {here.roots} --output {tmp_path / 'page'} %s"
    done = command(here, tmp_path, "login", "--oidc", browser=browser)
    assert done.returncode == 0, done.stderr
    assert "as anna, role user" in done.stdout
    assert "see your terminal" in (tmp_path / "page").read_text()
    assert "anna" in command(here, tmp_path, "whoami").stdout
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "id_token" not in kept
    here.provider.claims = {}
    done = command(here, tmp_path, "login", "--oidc", browser=browser)
    assert done.returncode != 0
    assert "the provider refuses: access_denied" in done.stderr
