"""The whole command, on hosts that have secrets in their journals. ssh runs here what it is to run there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.discovery.tokens import Tokens
from cluster_ai.rollout.journal import Change, Intent, Journal
from cluster_ai.security.vault import Vault
from tests.rig.processes import REPOSITORY, free_port

PLANTED = {name: f"planted-{name}-9Zq" for name in ("sudo", "vault", "other", "token", "login", "refresh", "url", "up")}
PROGRAMS = {
    "ssh": 'for last; do :; done\ncase "$last" in -V) echo OpenSSH >&2;; *) exec sh -c "$last";; esac',
    "sudo": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "systemctl": "echo cluster-ai-gateway@1.service loaded active running",
    "journalctl": f'echo "gateway: it said {PLANTED["other"]}, Bearer {PLANTED["token"]}"; echo "the last line"',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cluster"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (folder / "cluster.yaml").write_text(
        "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: head.example, port: 8786}\n"
        "  workers: [{name: w, resources: {cpu: 1, memory: 1GB}}]\n"
        f"  engine: {{source: 'https://anna:{PLANTED['url']}@mirror.example/ollama.tgz', sha256: {'a' * 64}}}\n"
        f"  gateway: {{port: {free_port()}}}\n"
    )
    Vault(folder, {"CLUSTER_AI_VAULT_PASSWORD": PLANTED["vault"]}).write({"other": PLANTED["other"]})
    journal = Journal(folder / ".cluster-ai" / "rollouts.sqlite")
    rollout = journal.begin("apply", "anna", Intent("lab", "rolling", "", {"w": Change(None, "b" * 64)}, ()))
    journal.step(rollout, "switch", "w", "failed", f"the engine says: --token {PLANTED['token']}")
    login = {"user": "anna", "token": PLANTED["login"], "ends": 9e9, "refresh": PLANTED["refresh"]}
    (tmp_path / "cluster-ai").mkdir()
    (tmp_path / "cluster-ai" / "logins.json").write_text(json.dumps({"http://elsewhere:1": login}))
    logs, credentials = (folder / ".cluster-ai" / "local" / name for name in ("logs", "credentials"))
    logs.mkdir(parents=True)
    credentials.mkdir()
    (credentials / layout.GATEWAY_TOKEN).write_text(f"{PLANTED['up']}\n")
    known = (value for name, value in PLANTED.items() if name not in ("token", "url"))  # these have their form alone
    (logs / "gateway.log").write_text("\n".join(known))
    return folder


def bundled(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "XDG_STATE_HOME": str(folder.parent),
        "CLUSTER_AI_SUDO_PASSWORD": PLANTED["sudo"],
        "CLUSTER_AI_VAULT_PASSWORD": PLANTED["vault"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "cluster_ai", "doctor", "--bundle", "bundle.tar.gz", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    with tarfile.open(folder / "bundle.tar.gz") as tar:
        files = {it.name.partition("/")[2]: tar.extractfile(it) for it in tar.getmembers()}
        return done, {name: file.read().decode() for name, file in files.items() if file}


def test_a_bundle_has_what_a_report_needs_and_no_secret(folder: Path) -> None:
    join = Tokens(folder).create("0123456789abcdef")
    log = folder / ".cluster-ai" / "local" / "logs" / "gateway.log"
    log.write_text(log.read_text() + f"\n{join.text} {join.secret}\n")
    done, files = bundled(folder)
    assert done.returncode in (0, 3), done.stderr  # what doctor finds depends on this machine
    assert "look through it before you give it away" in done.stderr
    assert (folder / "bundle.tar.gz").stat().st_mode & 0o077 == 0
    told = "\n".join(files.values()) + done.stdout + done.stderr
    assert not [it for it in (*PLANTED.values(), join.secret) if it in told]
    assert "***@mirror.example" in files["cluster.yaml"]
    for host in ("w", "head.example"):
        assert "the last line" in files[f"hosts/{host}/journal.txt"]
        assert "cluster-ai-gateway@1" in files[f"hosts/{host}/units.txt"]
    (rollout,) = json.loads(files["rollouts.json"])
    assert rollout["steps"][0]["detail"] == "the engine says: --token ***"
    assert {"this machine", "w", "head.example"} == set(json.loads(files["doctor.json"]))
    assert "pyinfra" in files["versions.txt"]
    assert "the gateway was not asked" in files["missing.txt"]
    assert "Prometheus was not asked" in files["missing.txt"]


def test_a_cluster_yaml_that_can_not_be_read_and_a_vault_that_does_not_open_are_bundled_all_the_same(
    folder: Path,
) -> None:
    (folder / "cluster.yaml").write_text("cluster: [\n  password: hunter22\n")
    Vault(folder, {"CLUSTER_AI_VAULT_PASSWORD": "another"}).write({"other": PLANTED["other"]})
    _, files = bundled(folder)
    assert files["cluster.yaml"] == "cluster: [\n  password: ***\n"
    assert "secrets.yaml was not opened" in files["missing.txt"]
    assert not [name for name in files if name.startswith("hosts/")]


def test_of_named_hosts_only_these_are_asked(folder: Path) -> None:
    _, files = bundled(folder, "w")
    assert {name.split("/")[1] for name in files if name.startswith("hosts/")} == {"w"}


def test_a_place_that_can_not_be_written_is_told(folder: Path) -> None:
    shutil.rmtree(folder / "bin")
    (folder / "bin").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "cluster_ai", "doctor", "--bundle", "bin/bundle.tar.gz", "w"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64, done.stderr
    assert "bin/bundle.tar.gz: can't be written" in done.stderr
