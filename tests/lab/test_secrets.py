"""Nothing secret lies open: not on any host, not on the controller, and not while secrets are on their way."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from cluster_ai import layout
from cluster_ai.config import load
from cluster_ai.errors import ExitCode
from cluster_ai.security.vault import Vault
from tests.lab.conftest import ROOT, Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

LOOK = (ROOT / "tests/lab/look_for.py").read_text()


def planted(cluster: Cluster) -> list[str]:
    """Every line of every secret in the vault, and the vault's own password."""
    vault = Vault.of(load(cluster.config_path))
    private = [value for value in vault.read().values() if "BEGIN CERTIFICATE" not in value]
    lines = [line for value in private for line in value.splitlines() if len(line) > 15 and "-----" not in line]
    return [*lines, vault.source.read().decode()]


@contextmanager
def command_lines(secrets: Sequence[str]) -> Iterator[list[str]]:
    """Processes with a secret in their command line, looked for all the while; those of hosts are seen from here."""
    found: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if any(secret.encode() in line for secret in secrets):
                    found.append(line.replace(b"\0", b" ")[:80].decode(errors="replace"))

    thread = threading.Thread(target=watch, name="command lines")
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def test_nothing_secret_lies_open_anywhere_while_secrets_are_on_their_way_and_after(cluster: Cluster) -> None:
    old, new = planted(cluster), token_hex(32)
    told = [sys.executable, "-m", "cluster_ai", "--config", str(cluster.config_path), "secrets", "set", "gateway_token"]
    with command_lines([*old, new]) as seen:
        subprocess.run(told, input=new, text=True, check=True, cwd=ROOT)
        said = [cluster.run("plan", "--json"), cluster.run("apply", "--yes"), cluster.run("status", "--json")]
        said += [cluster.run("rollouts", "show", "--json"), cluster.run("verify")]
    secrets = [*old, *planted(cluster)]
    assert new in secrets
    assert said[1].returncode == ExitCode.OK, said[1].stderr
    assert not [secret for secret in secrets for done in said if secret in done.stdout + done.stderr]
    assert seen == []

    kept = [path for path in (cluster.config_path.parent / ".cluster-ai").glob("*") if path.is_file()]
    for path in kept:
        content = path.read_bytes()
        assert path.name == "vault-password" or not any(secret.encode() in content for secret in secrets), path

    packed = base64.b64encode(zlib.compress(json.dumps(secrets).encode())).decode()
    for host in cluster.hosts:
        look = cluster.lab("exec", host, "--", "python3", "-I", "-c", LOOK, packed)
        answer = json.loads(look.stdout)
        assert answer["found"] == [], host
        assert answer["secrets"] > len(secrets), host
        assert answer["looked"]["processes"] > 20, host
        assert answer["looked"]["files"] > 1000, host
        assert answer["looked"]["log"] > 10_000, host
        modes = dict(answer["modes"])
        assert modes.pop(str(layout.CREDENTIALS)) in ([0o755, 0], [0o700, 0]), host
        assert set(map(tuple, modes.values())) <= {(0o600, 0), (0o700, 0)}, (host, modes)


def test_units_run_in_the_sandboxes_that_their_files_promise(cluster: Cluster) -> None:
    """What systemd itself says of loaded units, whatever was laid over their files."""
    for host in cluster.hosts:
        ours = cluster.lab.run_on(host, "systemctl list-units --all --plain --no-legend 'cluster-ai-*.service'")
        names = " ".join(line.split()[0] for line in ours.splitlines())
        listed = cluster.lab.run_on(host, f"systemd-analyze security --no-pager {names}")
        scores = re.findall(r"Overall exposure level for (\S+\.service): ([0-9.]+)", listed)
        assert len(scores) > 3, listed
        for name, score in scores:
            text = cluster.lab.run_on(host, f"systemctl cat {name}")
            assert float(score) <= 3.0 or "# Exposure: " in text, (host, name, score)
        assert "policy drop" in cluster.lab.run_on(host, "nft list table inet cluster_ai"), host


def test_a_release_that_a_host_runs_has_its_bill_of_materials(cluster: Cluster) -> None:
    told = json.loads(cluster.run("release", "sbom", cluster.hosts[-1], check=True).stdout)
    names = {component["name"] for component in told["components"]}
    assert {"cluster-ai", "ollama", "distributed"} <= names
    assert all(component["hashes"] for component in told["components"])
