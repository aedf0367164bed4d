"""The first contact with a host, and one whose key has changed: its fingerprint is shown, and a person decides."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import typer

from cluster_ai.cli.session import say
from cluster_ai.config.model import Config, Host, hosts
from cluster_ai.errors import ClusterAIError, HostError, HostKeyError
from cluster_ai.inventory import known_hosts
from cluster_ai.inventory.known_hosts import HostKey
from cluster_ai.provision.refusals import CONSOLE

# What OpenSSH believed before there was a file of the cluster's own.
BEFORE = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))


def trust(config: Config, names: Sequence[str], fingerprints: Collection[str] = ()) -> list[ClusterAIError]:
    """Pin the keys of these hosts that somebody confirms; what stays unbelieved is told, and returned.

    fingerprints: what was confirmed elsewhere; a host that shows another is refused, and nobody is asked.
    """
    file = known_hosts.path(config)
    first = not file.exists()
    wanted = [host for host in hosts(config) if host.name in names or first]
    shown = known_hosts.offered(config.ssh, list(dict.fromkeys(host.address for host in wanted)))
    errors: list[ClusterAIError] = []
    for host in wanted:
        key = shown[host.address]
        try:
            if isinstance(key, HostError):
                raise HostError(key.what, where=host.name, remedy=key.remedy)
            if _confirmed(host, key, file, fingerprints, ask=host.name in names):
                known_hosts.pin(file, [key])
        except ClusterAIError as error:
            if host.name in names:
                say(error)
                errors.append(error)
    return errors


def _confirmed(host: Host, key: HostKey, file: Path, fingerprints: Collection[str], *, ask: bool) -> bool:
    """Whether to write a key down."""
    known = known_hosts.find(file, key.name)
    what = f"{host.name}: {key.kind.removeprefix('ssh-').upper()} key {key.fingerprint}"
    if key in known:
        print(f"{what} is believed already.")
        return False
    before = [path.expanduser() for path in BEFORE if path.expanduser() != file]
    there = [] if known else [path for path in before if key in known_hosts.find(path, key.name)]
    if there and not fingerprints:
        print(f"{what} is in {there[0]}; now in {file} too.")
        return True
    if not ask:
        return False
    if fingerprints:
        if key.fingerprint not in fingerprints:
            raise HostKeyError(
                f"shows {key.fingerprint}, which is not what was given",
                changed=bool(known),
                where=host.name,
                remedy="somebody may stand between: ask whoever looks after the host",
            )
        print(f"{what} is as given.")
        return True
    if known:
        print(f"{what} IS ANOTHER ONE THAN {file} HAS: {', '.join(it.fingerprint for it in known)}")
        print("  If the host wasn't installed anew, somebody may stand between: ask whoever looks after it.")
    else:
        print(f"{what} is new to this cluster.")
    print(f"  Compare it on the host's own console: {CONSOLE}")
    if not sys.stdin.isatty():
        raise HostKeyError(
            "its key has to be confirmed, and there is no terminal to ask on",
            changed=bool(known),
            where=host.name,
            remedy=f"give what you know it by: cluster-ai trust {host.name} --fingerprint SHA256:...",
        )
    if not typer.confirm("  Believe it?"):
        raise HostKeyError("its SSH host key is not believed", changed=bool(known), where=host.name)
    return True
