"""Open WebUI as a component: only where it is asked for, its keys in credentials alone, people by the provider."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cluster_ai import layout, settings
from cluster_ai.config import hosts, load_text
from cluster_ai.config.model import Config
from cluster_ai.errors import ConfigError, HostError
from cluster_ai.gateway.auth import Guard, credentials
from cluster_ai.openwebui.__main__ import forget
from cluster_ai.openwebui.environment import OURS, environment
from cluster_ai.placement.place import place
from cluster_ai.provision import host_layer
from cluster_ai.release import parts
from cluster_ai.release.model import HostFacts
from cluster_ai.release.ports import ports
from cluster_ai.release.render import LAUNCH, render
from cluster_ai.release.store import Store
from cluster_ai.release.units import units
from cluster_ai.rollout.credentials import sums
from cluster_ai.security.credentials import for_head, load_or_create
from cluster_ai.security.vault import PASSWORD, Vault

OIDC = """\
  security:
    oidc:
      issuer: 'https://login.test/realms/lab'
      client_id: 'cluster-ai'
      cli_client_id: 'cli'
      role_claim: 'groups'
      roles: {admin: ['it'], user: ['staff', 'students'], viewer: ['guests']}
"""
PLAIN = "  security: {tls: {enabled: false}}\n"


def configured(there: bool = True, more: str = "", folder: Path = Path()) -> Config:
    return load_text(
        "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: 10.0.0.1}\n"
        "  workers: [{name: w, host: 10.0.0.2, resources: {cpu: 1, memory: 1GB}}]\n"
        f"  interface: {{open_webui: {str(there).lower()}}}\n{more}",
        folder / "cluster.yaml",
    )


def told(config: Config, folder: Path) -> settings.OpenWebuiSettings:
    head = hosts(config)[0]
    file = folder / "open-webui.json"
    file.write_bytes(render(config, place(config), head, units(config, head), {})["etc/open-webui.json"].content)
    return settings.load(settings.OpenWebuiSettings, file)


@pytest.mark.parametrize("there", [True, False])
def test_it_is_there_only_where_it_is_asked_for(there: bool) -> None:
    config = configured(there)
    head, worker = hosts(config)
    found = units(config, head)
    assert (layout.OPEN_WEBUI in {it.name for it in found}) is there
    assert layout.OPEN_WEBUI not in {it.name for it in units(config, worker)}
    assert (ports(config, head).get(8502) == layout.OPEN_WEBUI) is there
    files = render(config, place(config), head, found, {})
    assert ("etc/open-webui.json" in files) is there
    told_host = json.loads(files["etc/host.json"].content)
    assert told_host["open_webui_url"] == ("https://127.0.0.1:8502" if there else None)
    opened = [it["ports"] for it in host_layer.variables(config)["firewall_services"]]
    assert ("8502" in opened) is there


def test_its_unit_runs_from_packages_of_its_own() -> None:
    config = configured()
    (unit,) = (it for it in units(config, hosts(config)[0]) if it.name == layout.OPEN_WEBUI)
    assert unit.parts == ("app", "open-webui")
    assert "Environment=CLUSTER_AI_LIB=open-webui\n" in unit.text


@pytest.mark.parametrize("name", ["", "open-webui"])
def test_the_launcher_finds_the_packages_of_the_part_that_it_is_told(name: str, tmp_path: Path) -> None:
    release, sums_ = tmp_path / "releases" / "x", {"app": "a" * 64, "lib": "b" * 64, "open-webui": "c" * 64}
    (release / "bin").mkdir(parents=True)
    (release / "bin/launch").write_text(LAUNCH)
    (release / "manifest.json").write_text(json.dumps({"parts": sums_}, separators=(",", ":")))
    place_ = tmp_path / "parts" / sums_[name or "lib"] / (name or "lib")
    place_.mkdir(parents=True)
    environ = {"PATH": "/usr/bin:/bin", **({"CLUSTER_AI_LIB": name} if name else {})}
    command = ["/bin/sh", str(release / "bin/launch"), "/bin/sh", "-c", "echo $PYTHONPATH"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    assert said == f"{release}/app:{place_}"


def test_its_keys_are_made_once_and_reach_the_units_as_credentials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "x")
    Vault(tmp_path).write({"alerts_webhook_token": "t"})
    before = sums(configured(False, folder=tmp_path))
    assert not {"open_webui_key", "open_webui_secret"} & Vault(tmp_path).read().keys()
    config = configured(folder=tmp_path)
    after = sums(config)
    names = {layout.OPEN_WEBUI_KEY, layout.OPEN_WEBUI_SECRET}
    assert {name for name in after if after[name] != before[name]} == names
    assert not {name for name in names if after[name] == hashlib.sha256().hexdigest()}
    given = for_head(load_or_create(config), config)
    assert given == for_head(load_or_create(config), config)
    secret = [given[name].decode() for name in names]
    assert len(set(secret)) == 2
    head = hosts(config)[0]
    for unit in units(config, head):
        handed = set(re.findall(r"^LoadCredential=([^:]+)", unit.text, re.MULTILINE)) & names
        assert handed == {layout.GATEWAY: {layout.OPEN_WEBUI_KEY}, layout.OPEN_WEBUI: names}.get(unit.name, set())
    for file in render(config, place(config), head, units(config, head), {}).values():
        assert not any(it.encode() in file.content for it in secret)


def test_the_gateway_knows_it_by_its_key() -> None:
    guard = Guard("", (), open_webui="k" * 64)
    user = guard.check(credentials([(b"authorization", b"Bearer " + b"k" * 64)]), "127.0.0.1")
    assert (user.name, user.role) == ("open-webui", "service")


def test_it_asks_the_gateway_on_loopback_and_signs_who_asks_with_its_key(tmp_path: Path) -> None:
    found = environment(told(configured(), tmp_path), Path("/state"), key="k", sessions="s")
    assert found["OLLAMA_BASE_URL"] == "http://127.0.0.1:11436"
    assert json.loads(found["OLLAMA_API_CONFIGS"])["0"]["key"] == found["FORWARD_USER_INFO_HEADER_JWT_SECRET"] == "k"
    assert found["ENABLE_FORWARD_USER_INFO_HEADERS"] == "true"
    assert found["WEBUI_SECRET_KEY"] == "s"
    assert (found["WEBUI_AUTH"], found["ENABLE_SIGNUP"]) == ("true", "false")
    assert found["WEBUI_SESSION_COOKIE_SECURE"] == "true"
    assert "ENABLE_OAUTH_SIGNUP" not in found
    plain = environment(told(configured(more=PLAIN), tmp_path), Path("/state"), key="k", sessions="s")
    assert (plain["WEBUI_SESSION_COOKIE_SECURE"], plain["WEBUI_URL"]) == ("false", "http://10.0.0.1:8502")


def test_with_a_provider_people_come_by_it_alone_and_only_who_may_use_models(tmp_path: Path) -> None:
    found = environment(told(configured(more=OIDC), tmp_path), Path("/state"), key="k", sessions="s", oidc_secret="o")
    assert found["ENABLE_LOGIN_FORM"] == "false"
    assert found["OPENID_PROVIDER_URL"] == "https://login.test/realms/lab/.well-known/openid-configuration"
    assert found["OPENID_REDIRECT_URI"] == "https://10.0.0.1:8502/oauth/oidc/callback"
    assert (found["OAUTH_CLIENT_ID"], found["OAUTH_CLIENT_SECRET"]) == ("cluster-ai", "o")
    assert (found["OAUTH_ALLOWED_ROLES"], found["OAUTH_ADMIN_ROLES"]) == ("staff,students,it", "it")


def test_what_the_file_decides_is_forgotten_and_what_its_administrator_set_is_kept(tmp_path: Path) -> None:
    database = tmp_path / "webui.db"
    forget(database)
    assert not database.exists()
    with closing(sqlite3.connect(database)) as kept, kept:
        kept.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON)")
        kept.executemany("INSERT INTO config VALUES (?, '1')", [(key,) for key in (*OURS, "ui.banners")])
    forget(database)
    with closing(sqlite3.connect(database)) as kept:
        assert kept.execute("SELECT key FROM config").fetchall() == [("ui.banners",)]


def test_a_python_that_it_doesnt_run_on_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"Python 3\.13"):
        parts.open_webui(hosts(configured())[0], HostFacts("debian-13", "3.13", "x86_64"), Store(tmp_path), None)


def test_its_port_is_its_own() -> None:
    with pytest.raises(ConfigError, match="8501"):
        load_text(
            "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: h}\n"
            "  workers: [{name: w, host: v, resources: {cpu: 1, memory: 1GB}}]\n"
            "  interface: {open_webui: true, open_webui_port: 8501}\n",
            "cluster.yaml",
        )
