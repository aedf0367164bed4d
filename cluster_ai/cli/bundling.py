"""What goes into the bundle of `cluster-ai doctor --bundle`, and which secrets must not."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster_ai import __version__
from cluster_ai.cli.monitoring import local_of, paths_of, prometheus_of
from cluster_ai.errors import ClusterAIError

if TYPE_CHECKING:
    from pathlib import Path

    from cluster_ai.cli.main import Invocation
    from cluster_ai.rollout.doctor import Finding
    from cluster_ai.rollout.scope import Scope

LOG = 500  # lines of each log of the cluster of this machine
ROLLOUTS = 10
_SERIES = '{__name__=~"up|ALERTS|(cluster|worker|model|gateway)[_:].*", __name__!~".*_bucket"}'
_SECRET = re.compile(r"pass|token|secret|key|credential|auth(?!or)", re.IGNORECASE)
README = """\
Made by `cluster-ai doctor --bundle`, for a bug report.

Taken out, shown as ***: what is in secrets.yaml, passwords and tokens of this machine's environment and logins, and
whatever has the form of a secret. Still in it: names and addresses of hosts, names of models and of users, and what
logs say. Look through it before you give it away. What could not be asked is in missing.txt.
"""


def write(
    invocation: Invocation,
    path: Path,
    scope: Scope | None,
    found: Mapping[str, Sequence[Finding]],
    sudo_password: str | None,
) -> None:
    """scope: the hosts that are asked; None: none, as cluster.yaml can't be read, or the cluster is this machine's.

    found: what doctor says.
    """
    from cluster_ai.bugreport import archive
    from cluster_ai.bugreport.scrub import Scrubber

    missing: list[str] = []
    known = list(_known(invocation, scope, missing))
    findings = {where: [asdict(it) for it in each] for where, each in found.items()}
    files = {
        "README.txt": README,
        "versions.txt": _versions(),
        "doctor.json": _json(findings),
        **_configuration(invocation),
        **_of_hosts(scope),
        **_of_this_machine(invocation),
        **_rollouts(invocation),
        **_gateway(invocation, missing),
        **_metrics(invocation, scope, missing),
    }
    files["missing.txt"] = "".join(f"{text}\n" for text in missing)
    archive.write(path, files, Scrubber([*known, *([sudo_password] if sudo_password else [])]))


def _known(invocation: Invocation, scope: Scope | None, missing: list[str]) -> Iterator[str]:
    """Secrets that are within reach of this machine."""
    from cluster_ai.cli import logins
    from cluster_ai.discovery.tokens import Tokens
    from cluster_ai.security.vault import Vault

    folder = invocation.config_path.resolve().parent
    yield from (value for name, value in os.environ.items() if _SECRET.search(name))
    try:
        vault = Vault(folder, security=scope.config.security if scope else None)
        if vault.exists():
            yield vault.source.read().decode(errors="replace")
            yield from vault.read().values()
    except ClusterAIError as error:
        missing.append(f"secrets.yaml was not opened, so its secrets were known by their form only: {error.what}")
    for token in Tokens(folder).all():
        yield token.secret
    yield from logins.secrets()
    for file in (folder / ".cluster-ai" / "local" / "credentials").glob("*"):
        if _SECRET.search(file.name):
            yield file.read_text(errors="replace")


def _versions() -> str:
    from importlib.metadata import distributions

    ssh = "no ssh"
    if shutil.which("ssh"):
        ssh = subprocess.run(("ssh", "-V"), capture_output=True, text=True, check=False).stderr.strip()
    packages = sorted({f"{it.name} {it.version}" for it in distributions()}, key=str.lower)
    head = (f"cluster-ai {__version__}", f"Python {sys.version}", platform.platform(), ssh)
    return "\n".join((*head, "", *packages, ""))


def _configuration(invocation: Invocation) -> dict[str, str]:
    path = invocation.config_path
    try:
        return {"cluster.yaml": path.read_text(errors="replace")} if path.is_file() else {}
    except OSError:
        return {}


def _of_hosts(scope: Scope | None) -> dict[str, str]:
    if scope is None:
        return {}
    from cluster_ai.bugreport import hosts

    told = hosts.ask(scope.argv(), scope.sudo_password)
    return {f"hosts/{host}/{name}": text for host, files in told.items() for name, text in files.items()}


def _of_this_machine(invocation: Invocation) -> dict[str, str]:
    return {
        f"local/{path.name}": "".join(path.read_text(errors="replace").splitlines(keepends=True)[-LOG:])
        for path in sorted(paths_of(invocation).logs.glob("*.log"))
    }


def _rollouts(invocation: Invocation) -> dict[str, str]:
    from cluster_ai.rollout.records import folder, journal_of

    if not (folder(invocation.config_path) / "rollouts.sqlite").exists():
        return {}
    return {"rollouts.json": _json([it.as_dict() for it in journal_of(invocation.config_path).all(ROLLOUTS)])}


def _gateway(invocation: Invocation, missing: list[str]) -> dict[str, str]:
    from cluster_ai.cli.gateway import find

    try:
        return {"gateway.json": _json(find(invocation, None).ask("GET", "/api/v1/cluster/status"))}
    except ClusterAIError as error:
        missing.append(f"the gateway was not asked: {error.what}")
        return {}


def _metrics(invocation: Invocation, scope: Scope | None, missing: list[str]) -> dict[str, str]:
    if scope is None and local_of(invocation) is None:
        return {}
    try:
        samples = prometheus_of(invocation, scope).query(_SERIES)
    except ClusterAIError as error:
        missing.append(f"Prometheus was not asked: {error.what}")
        return {}
    lines = []
    for sample in samples:
        labels = ",".join(f"{name}={json.dumps(value)}" for name, value in sample.labels.items() if name != "__name__")
        lines.append(f"{sample.labels.get('__name__', '')}{{{labels}}} {sample.value:g}\n")
    return {"metrics.txt": "".join(sorted(lines))}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
