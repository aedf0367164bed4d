"""`cluster-ai doctor`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_ai.cli.session import AskPassword, Json, sudo_password
from cluster_ai.errors import ClusterAIError, ExitCode, HostError

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.config.model import Config
    from cluster_ai.rollout.doctor import Finding
    from cluster_ai.rollout.scope import Scope

ROOM = 5 * 10**9  # bytes that wheels, parts and bundles take here
MEMORY = 2 * 10**9  # bytes that `up` is happy with
MARKS = {"ok": ("ok  ", "32"), "warn": ("warn", "33"), "fail": ("FAIL", "31")}


def command(
    ctx: typer.Context,
    hosts: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Hosts; none: this machine.")] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE", help="Write what a bug report needs, as .tar.gz.")
    ] = None,
    as_json: Json = False,
    ask_sudo_password: AskPassword = False,
) -> None:
    """Say what is wrong with this machine, or with hosts, and what to do.

    --bundle looks at this machine and all hosts where none is named, and puts what it found into a file: versions,
    cluster.yaml, states and logs of the cluster's parts, rollouts, metrics. Secrets are taken out; names and addresses
    stay.

    Exit code 0: nothing that stands in the way. 3: something does.
    """
    password = sudo_password(ask_sudo_password)
    scope = _scope(ctx.obj, hosts or [], password, every=bundle is not None)
    found = {} if hosts else {"this machine": list(_machine(ctx.obj))}
    found |= _hosts(scope) if scope else {}
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps({where: [asdict(finding) for finding in it] for where, it in found.items()}, indent=2))
    else:
        for where, findings in found.items():
            _print(where, findings)
    if bundle:
        from cluster_ai.cli import bundling

        bundling.write(ctx.obj, bundle, scope, found, password)
        print(f"{bundle}: look through it before you give it away", file=sys.stderr)
    if any(finding.level == "fail" for findings in found.values() for finding in findings):
        raise typer.Exit(ExitCode.HOST)


def _scope(invocation: Invocation, hosts: list[str], password: str | None, *, every: bool) -> Scope | None:
    """every: all hosts where none is named, but for a cluster.yaml that can't be read, of which `_machine` tells."""
    from cluster_ai.cli.monitoring import local_of
    from cluster_ai.rollout.scope import Scope

    if hosts:
        return Scope(invocation.config(), tuple(dict.fromkeys(hosts)), password)
    if not every or local_of(invocation) is not None:
        return None
    try:
        return Scope(invocation.config(), (), password)
    except ClusterAIError:
        return None


def _print(where: str, findings: Sequence[Finding]) -> None:
    print(where)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for finding in findings:
        mark, code = MARKS[finding.level]
        print(f"  {f'{chr(27)}[{code}m{mark}{chr(27)}[0m' if colour else mark}  {finding.what}")
        if finding.remedy:
            print(f"        -> {finding.remedy}")


def _hosts(scope: Scope) -> dict[str, list[Finding]]:
    from cluster_ai.provision.ssh import calls, run
    from cluster_ai.rollout import doctor, observe
    from cluster_ai.rollout.doctor import Finding

    found = {}
    now = time.time()
    replies = run(calls(scope.argv(), doctor.SCRIPT), sudo_password=scope.sudo_password)
    for host in scope.hosts:
        reply = replies[host.name]
        try:
            if isinstance(reply, HostError):
                raise reply
            seen = observe.parse(host.name, reply.text)
        except HostError as error:
            found[host.name] = [Finding("fail", error.what, error.remedy)]
        else:
            found[host.name] = doctor.findings(scope.config, host, seen, doctor.parse(reply.text), now)
    return found


def _machine(invocation: Invocation) -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", f"Python {version}")
    yield from _programs()
    folder = invocation.config_path.resolve().parent
    if folder.is_dir():
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:.1f} GB are free beside {invocation.config_path}"
        yield (
            Finding("ok", text) if free > ROOM else Finding("warn", text, "releases are built there, of some GB in all")
        )
    yield from _memory()
    yield from _clock()
    if not invocation.config_path.exists():
        yield Finding("warn", f"there is no {invocation.config_path}", "cluster-ai init makes one; `up` needs none")
    else:
        yield from _configuration(invocation)
    yield from _ports(folder)


def _programs() -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    wanted = {
        "ssh": "apt install openssh-client (plan and apply need it)",
        "rsync": "apt install rsync (apply sends big files with it)",
        "apt-get": "packages.source: bundle needs Debian's or Ubuntu's apt on this machine",
        "prometheus": "apt install prometheus (`up` draws no charts without it)",
    }
    for program, remedy in wanted.items():
        if path := shutil.which(program):
            yield Finding("ok", f"{program}: {path}")
        else:
            yield Finding("fail" if program == "ssh" else "warn", f"{program} is not installed", remedy)
    yield _ollama()


def _ollama() -> Finding:
    from cluster_ai.local import machine
    from cluster_ai.rollout.doctor import Finding

    remedy = "without it `up` uses the engine that it brings along, with a small model"
    try:
        found = machine.ollama(os.environ)
    except ClusterAIError as error:
        return Finding("fail", f"{error.where}: {error.what}", error.remedy)
    return Finding("ok", f"ollama: {found}") if found else Finding("warn", "ollama is not installed", remedy)


def _memory() -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return
    text = f"{available / 1e9:.1f} GB of memory are available"
    yield Finding("ok", text) if available > MEMORY else Finding("warn", text, "`up` will start a smaller cluster")


def _clock() -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    if not shutil.which("timedatectl"):
        return
    asked = subprocess.run(
        ("timedatectl", "show", "-p", "NTPSynchronized", "--value"), capture_output=True, text=True, check=False
    )
    if asked.stdout.strip() == "yes":
        yield Finding("ok", "the clock is synchronized")
    elif asked.stdout.strip() == "no":
        yield Finding("warn", "the clock is not synchronized", "certificates need right clocks: apt install chrony")


def _configuration(invocation: Invocation) -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    try:
        config = invocation.config()
        from cluster_ai.placement.place import place

        place(config)
    except ClusterAIError as error:
        for one in getattr(error, "errors", (error,)):
            yield Finding("fail", f"{one.where}: {one.what}" if one.where else one.what, one.remedy)
        return
    yield Finding("ok", f"{invocation.config_path} is valid, and every model fits")
    yield from _keys(config)
    from cluster_ai.provision import host_layer

    try:
        host_layer.require_checkout()
    except ClusterAIError as error:
        yield Finding("fail", error.what, error.remedy)
    for what, path in (("the engine's archive", config.engine.source), *(("a model", m.source) for m in config.models)):
        if path and "://" not in str(path) and not (invocation.config_path.resolve().parent / path).exists():
            yield Finding("fail", f"{what} is missing: {path}", "correct the source in cluster.yaml, or bring the file")


def _keys(config: Config) -> Iterator[Finding]:
    from cluster_ai.rollout.doctor import Finding

    known_hosts, key = config.ssh.known_hosts, config.ssh.key
    if known_hosts and not known_hosts.is_file():
        yield Finding("fail", f"ssh.known_hosts is missing: {known_hosts}", "cluster-ai trust makes it")
    if key is None:
        listed = (
            subprocess.run(("ssh-add", "-l"), capture_output=True, text=True, check=False)
            if shutil.which("ssh-add")
            else None
        )
        agent = listed is not None and listed.returncode == 0
        own = [path for path in (Path.home() / ".ssh").glob("id_*") if path.suffix != ".pub"]
        if agent or own:
            yield Finding("ok", "ssh has keys" + (", by its agent" if agent else f": {', '.join(map(str, own))}"))
        else:
            yield Finding("warn", "ssh has no key", "ssh-keygen -t ed25519, then ssh-copy-id to each host")
        return
    if not key.is_file():
        yield Finding(
            "fail", f"ssh.key is missing: {key}", "correct it in cluster.yaml, or make it: ssh-keygen -f " + str(key)
        )
        return
    if key.stat().st_mode & 0o077:
        yield Finding("fail", f"others may read {key}, so ssh refuses it", f"chmod 600 {key}")
        return
    opened = subprocess.run(("ssh-keygen", "-y", "-P", "", "-f", str(key)), capture_output=True, text=True, check=False)
    if opened.returncode:
        yield Finding("warn", f"{key} has a passphrase, or is no key", f"ssh-add {key}, before plan and apply")
    else:
        yield Finding("ok", f"ssh's key: {key}")


def _ports(folder: Path) -> Iterator[Finding]:
    """The ports of `up`; those of a local cluster that runs are no fault."""
    from cluster_ai.local import state
    from cluster_ai.local.model import Paths
    from cluster_ai.rollout.doctor import Finding

    local = state.read(Paths(folder / ".cluster-ai"))
    if local is not None:
        yield Finding("ok", f"a local cluster is up: {local.gateway}")
        return
    wanted = {11435: "gateway", 8501: "dashboard", 8786: "Dask", 8787: "Dask's dashboard", 9090: "Prometheus"}
    taken = {port: what for port, what in wanted.items() if _taken(port)}
    for port, what in taken.items():
        yield Finding(
            "warn", f"port {port} is taken, which `up` wants for its {what}", "cluster-ai up --help: another port"
        )
    if not taken:
        yield Finding("ok", "the ports that `up` wants are free")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
