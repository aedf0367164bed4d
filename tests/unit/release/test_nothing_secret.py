"""Secrets are planted, and looked for in all that the controller makes, keeps and says."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cluster_ai.config import hosts
from cluster_ai.config.model import Config
from cluster_ai.placement.place import place
from cluster_ai.release import wheels
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts
from cluster_ai.release.store import Store
from cluster_ai.security.credentials import load_or_create
from cluster_ai.security.vault import PASSWORD, Vault
from tests.unit.release.conftest import Cluster

SUDO = "planted-sudo-password"
VAULT = "planted-vault-password"
OTHER = "planted-other-secret"


@pytest.fixture(autouse=True)
def fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(lock: Path, facts: HostFacts, store: Store, into: Path) -> list[Path]:
        with zipfile.ZipFile(into / "x-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("x.py", "NAME = 'x'\n")
        return [into / "x-1-py3-none-any.whl"]

    monkeypatch.setattr(wheels, "fetch", fetch)


@pytest.fixture
def config(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv(PASSWORD, VAULT)
    config = cluster.config()
    Vault(cluster.folder).write({"other": OTHER})
    load_or_create(config)
    return config


def planted(config: Config) -> list[bytes]:
    """What must be found nowhere; of keys their lines."""
    kept = Vault.of(config).read()
    assert kept["other"] == OTHER
    private = {name: value for name, value in kept.items() if "CERTIFICATE-----" not in value}
    lines = [
        line for value in private.values() for line in value.splitlines() if len(line) > 15 and "-----" not in line
    ]
    return [line.encode() for line in (*lines, SUDO, VAULT)]


def found(secrets: list[bytes], content: bytes) -> bool:
    return any(secret in content for secret in secrets)


def test_nothing_secret_is_in_releases_or_in_what_is_kept_beside_them(config: Config) -> None:
    facts = {host.name: HostFacts("debian-12", "3.11", "x86_64") for host in hosts(config)}
    releases = desired(config, place(config), facts, Store.of(config))
    secrets = planted(config)
    assert releases
    assert len(secrets) > 4
    files = [path for path in config.path.parent.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert not found(secrets, gzip.decompress(content) if path.suffix == ".gz" else content), path


@pytest.mark.parametrize(
    "words",
    [
        ["plan"],
        ["plan", "--json"],
        ["apply", "--yes"],
        ["status", "--json"],
        ["verify"],
        ["doctor", "a"],
        ["doctor"],
        ["validate"],
        ["config", "show", "--json"],
        ["secrets", "list"],
        ["rollouts", "list"],
    ],
    ids=" ".join,
)
def test_no_command_says_a_secret(config: Config, words: list[str]) -> None:
    text = config.path.read_text() + "  ssh: {user: 'nobody', port: 9, key: './none'}\n"
    for host in ("10.9.9.1", "b.cluster.test", "10.9.9.3"):
        text = text.replace(host, "127.0.0.1" if host == "10.9.9.1" else "localhost" if host[0] == "b" else "127.0.0.2")
    config.path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "cluster_ai", "--config", str(config.path), *words],
        env=os.environ | {"CLUSTER_AI_SUDO_PASSWORD": SUDO},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert said
    assert b"Traceback" not in said
    assert not found(planted(config), said)
