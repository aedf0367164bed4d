from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from cluster_ai.config import load
from cluster_ai.config.model import Config, hosts
from cluster_ai.errors import ConfigError
from cluster_ai.security import ca
from cluster_ai.security.credentials import completed, for_head, for_host, load_or_create
from cluster_ai.security.vault import PASSWORD, Vault

CLUSTER = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.9.9.1'}
  workers:
    - {name: 'b', host: 'b.cluster.test', resources: {cpu: 2, memory: '8GB'}}
  models: []
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv(PASSWORD, "test")
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return load(tmp_path / "cluster.yaml")


def test_secrets_are_made_once_and_then_kept(config: Config, tmp_path: Path) -> None:
    made, sealed = load_or_create(config), (tmp_path / "secrets.yaml").read_bytes()
    kept = load_or_create(config)
    assert (kept.trust, kept.issuing, kept.gateway_token) == (made.trust, made.issuing, made.gateway_token)
    assert (tmp_path / "secrets.yaml").read_bytes() == sealed
    assert (tmp_path / ".cluster-ai/ca.pem").read_bytes() == made.trust
    assert made.gateway_token not in repr(made)


def test_a_secret_that_somebody_put_there_is_kept_and_only_what_lacks_is_made(config: Config, tmp_path: Path) -> None:
    Vault(tmp_path).write({"gateway_token": "ours", "other": "theirs"})
    assert load_or_create(config).gateway_token == "ours"
    assert Vault(tmp_path).read()["other"] == "theirs"


@pytest.mark.parametrize(
    ("has", "lacks"), [("ca_cert", "ca_key"), ("root_key", "root_cert"), ("issuing_key", "issuing_cert")]
)
def test_half_a_ca_is_refused(config: Config, tmp_path: Path, has: str, lacks: str) -> None:
    Vault(tmp_path).write({has: "x"})
    with pytest.raises(ConfigError, match=f"{lacks} is missing"):
        load_or_create(config)


def test_the_token_and_the_issuing_ca_go_to_the_head_and_the_roots_key_nowhere(config: Config, tmp_path: Path) -> None:
    secrets = load_or_create(config)
    head, worker = (for_host(secrets, config, host) for host in hosts(config))
    assert set(worker) == {"tls/ca.pem", "tls/cert.pem", "tls/key.pem", "tls/hosts"}
    ours = ("gateway.token", "issuing.pem", "issuing.key", "public.pem", "public.key", "oidc.secret")
    assert set(head) == {
        *worker,
        *ours,
        "alerts-webhook.token",
        "alerts-mail.password",
        "open-webui.key",
        "open-webui.secret",
    }
    assert head["gateway.token"] == f"{secrets.gateway_token}\n".encode()
    assert worker["tls/hosts"].decode().split() == ["10.9.9.1", "b"]
    root = Vault(tmp_path).read()["root_key"].encode()
    assert root not in (*head.values(), *worker.values())


def test_the_roots_key_may_be_kept_elsewhere_until_an_issuing_ca_is_due(config: Config, tmp_path: Path) -> None:
    made = load_or_create(config)
    kept = Vault(tmp_path).read()
    Vault(tmp_path).write({name: text for name, text in kept.items() if name != "root_key"})
    assert load_or_create(config).issuing == made.issuing
    lost = {name: text for name, text in kept.items() if name not in ("root_key", "issuing_cert", "issuing_key")}
    Vault(tmp_path).write(lost)
    with pytest.raises(ConfigError, match="root's key"):
        load_or_create(config)


def test_a_cluster_from_before_there_was_a_root_keeps_its_ca_and_gives_its_key_to_no_host(
    config: Config, tmp_path: Path
) -> None:
    old = ca.create("test")
    Vault(tmp_path).write({"ca_cert": old.cert.decode(), "ca_key": old.key.decode(), "gateway_token": "t"})
    secrets = load_or_create(config)
    head, worker = (for_host(secrets, config, host) for host in hosts(config))
    assert worker["tls/ca.pem"] == old.cert
    assert old.key not in (*head.values(), *worker.values())
    assert (head["issuing.pem"], head["issuing.key"]) == (b"", b"")
    assert ca.expiry(worker["tls/cert.pem"]) - datetime.now(UTC) > timedelta(days=300)


def test_a_certificate_has_the_hosts_role_and_every_name_that_it_is_reached_by(config: Config) -> None:
    secrets = load_or_create(config)
    roles = []
    for host in hosts(config):
        cert = x509.load_pem_x509_certificate(for_host(secrets, config, host)["tls/cert.pem"])
        roles.append(cert.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value)
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
        assert {host.address, host.name, "localhost", "127.0.0.1"} <= found
    assert roles == ["head", "worker"]


def test_importing_it_loads_neither_ansible_nor_cryptography() -> None:
    code = (
        "import sys, cluster_ai.security.credentials; "
        "sys.exit(any(m.split('.')[0] in ('ansible', 'cryptography') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


GIVEN = CLUSTER.replace("'10.9.9.1'", "'head.cluster.test'").replace(
    "  models: []", "  models: []\n  security: {tls: {certificate: 'people.pem'}}"
)


def given(folder: Path, *names: str, key: bytes | None = None, now: datetime | None = None) -> Config:
    pair = ca.issue(ca.create("elsewhere"), "elsewhere", names, "", now=now)
    (folder / "people.pem").write_bytes(pair.cert)
    (folder / "cluster.yaml").write_text(GIVEN)
    Vault(folder).write({"tls_key": (key or pair.key).decode()})
    return load(folder / "cluster.yaml")


@pytest.mark.parametrize("names", [["head.cluster.test"], ["else.where", "*.cluster.test"]])
def test_a_certificate_that_is_given_goes_to_the_head_with_its_key(
    config: Config, tmp_path: Path, names: list[str]
) -> None:
    config = given(tmp_path, *names)
    head, worker = (for_host(load_or_create(config), config, host) for host in hosts(config))
    assert head["public.pem"] == (tmp_path / "people.pem").read_bytes()
    assert head["public.key"].decode() == Vault(tmp_path).read()["tls_key"]
    assert "public.pem" not in worker


@pytest.mark.parametrize(
    ("names", "key", "now", "why"),
    [
        (["other.test"], None, None, "doesn't hold for head.cluster.test, .* but for other.test"),
        (["head.cluster.test"], ca.create("x").key, None, "another key"),
        (["head.cluster.test"], b"no key", None, "unencrypted PEM key"),
        (["head.cluster.test"], None, datetime(2020, 1, 1, tzinfo=UTC), "expired: 2020-01-08"),
    ],
)
def test_one_that_people_would_refuse_is_refused_here(
    config: Config, tmp_path: Path, names: list[str], key: bytes | None, now: datetime | None, why: str
) -> None:
    config = given(tmp_path, *names, key=key, now=now)
    secrets = load_or_create(config)  # commands that only ask are not kept from it
    with pytest.raises(ConfigError, match=why) as caught:
        for_head(secrets, config)
    assert caught.value.where == str(tmp_path / "people.pem")


def test_without_its_key_the_error_says_how_to_give_it(config: Config, tmp_path: Path) -> None:
    config = given(tmp_path, "head.cluster.test")
    Vault(tmp_path).write({})
    with pytest.raises(ConfigError, match="there is no tls_key") as caught:
        for_head(load_or_create(config), config)
    assert "cluster-ai secrets set tls_key" in caught.value.remedy


def test_further_names_are_the_heads_alone(config: Config, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        CLUSTER.replace("  models: []", "  models: []\n  security: {tls: {names: ['ai.cluster.test']}}")
    )
    head, worker = hosts(load(tmp_path / "cluster.yaml"))
    assert "ai.cluster.test" in head.sans
    assert "ai.cluster.test" not in worker.sans


def test_the_dashboards_secret_at_the_provider_is_asked_for_and_goes_to_the_head(
    config: Config, tmp_path: Path
) -> None:
    oidc = "oidc: {issuer: 'https://login.test', client_id: 'board', roles: {user: ['staff']}}"
    (tmp_path / "cluster.yaml").write_text(CLUSTER.replace("  models: []", f"  models: []\n  security: {{{oidc}}}"))
    config = load(tmp_path / "cluster.yaml")
    with pytest.raises(ConfigError, match="there is no oidc_secret"):
        for_head(load_or_create(config), config)
    Vault(tmp_path).write({"oidc_secret": "planted\n"})
    head, worker = (for_host(load_or_create(config), config, host) for host in hosts(config))
    assert head["oidc.secret"] == b"planted"
    assert "oidc.secret" not in worker


def test_of_two_that_make_a_ca_at_once_one_is_refused_and_nothing_is_lost(config: Config, tmp_path: Path) -> None:
    vault = Vault(tmp_path)

    def meanwhile(found: Mapping[str, str]) -> dict[str, str]:
        load_or_create(config)  # another command, which is quicker
        return completed(found, config.name, "here")

    with pytest.raises(ConfigError, match="changed meanwhile"):
        vault.change(meanwhile)
    assert load_or_create(config).issuing.cert == vault.read()["issuing_cert"].encode()
