"""The cluster's certificates: what they are, and their change while everything runs. Releases have no part in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster_ai import layout
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import ClusterAIError, ConfigError, HostError
from cluster_ai.provision import ssh
from cluster_ai.provision.pyinfra import renew
from cluster_ai.rollout import credentials
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.scope import Scope
from cluster_ai.security import ca, rotation
from cluster_ai.security.credentials import OLD_CERT, ROOT_KEY, existing, load_or_create
from cluster_ai.security.vault import Vault
from cluster_ai.tls.validity import validity

RESTART = f"systemctl try-restart {layout.ISSUER}"

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that counts. use: what for."""

    use: str
    name: str
    fingerprint: str
    end: datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """A host's certificate. current: it comes with the roots and the list of hosts that the cluster has now."""

    host: str
    end: datetime | None
    current: bool
    note: str = ""


def authorities(scope: Scope) -> list[Authority]:
    secrets = existing(scope.config)
    ours, *others = ca.split(secrets.trust)
    found = [("root", ours)]
    found += [("issuing CA, on the head host", secrets.issuing.cert)] if secrets.renews else []
    found += [("trusted beside it", other) for other in others]
    tls = scope.config.security.tls
    if tls.enabled and tls.certificate:
        found.append(("shown to people", tls.certificate.read_bytes()))
    try:
        return [Authority(use, ca.common_name(it), ca.fingerprint(it), ca.expiry(it)) for use, it in found]
    except ValueError as error:  # the others are our own
        raise ConfigError(f"is no certificate: {error}", where=str(tls.certificate)) from error


def notes(scope: Scope) -> list[str]:
    """What is to be done about the CA, or known."""
    found = Vault.of(scope.config).read()
    told = []
    if OLD_CERT in found:
        told.append(
            "one CA signs everything, and no host renews its certificate: cluster-ai certs rotate root ends that"
        )
    elif ROOT_KEY not in found:
        told.append("the root's key is kept elsewhere")
    if rotation.begun(found):
        told.append("a change of the root is under way: cluster-ai certs rotate root goes on with it")
    return told


def leaves(scope: Scope, seen: Mapping[str, Observed | HostError]) -> list[Leaf]:
    wanted = credentials.sums(scope.config)
    found = []
    for host, it in seen.items():
        if isinstance(it, HostError):
            found.append(Leaf(host, None, current=False, note=it.what))
            continue
        same = all(it.sums.get(name) == wanted[name] for name in (credentials.TRUST, credentials.REGISTERED))
        try:
            end = datetime.fromtimestamp(validity(it.certificate).end, UTC) if it.certificate else None
        except ValueError:
            found.append(Leaf(host, None, current=False, note="can't be read: cluster-ai apply gives it another"))
            continue
        note = "" if end else "has none: cluster-ai apply gives it one"
        if end and end.timestamp() < it.clock:
            note = "has ended: cluster-ai apply gives it another"
        found.append(Leaf(host, end, current=same and end is not None, note=note))
    return found


def rotate_issuing(scope: Scope, on_event: OnEvent) -> dict[str, ClusterAIError]:
    """Another issuing CA, and certificates of it. Hosts that can't be reached; they go on with what they have."""
    vault = Vault.of(scope.config)
    if OLD_CERT in vault.read():
        raise ConfigError("this cluster has no issuing CA yet", remedy="cluster-ai certs rotate root")
    load_or_create(scope.config)
    vault.change(lambda found: rotation.delegated(found, scope.config.name, str(vault.path)))
    return give(scope, on_event)


def rotate_root(scope: Scope, on_event: OnEvent) -> dict[str, ClusterAIError]:
    """Another root. Hosts that can't be reached: where there are some, the new one isn't used yet."""
    load_or_create(scope.config)
    vault = Vault.of(scope.config)
    vault.change(lambda found: rotation.begin(found, scope.config.name))
    if failed := give(scope, on_event):
        return failed
    vault.change(rotation.promoted)
    return give(scope, on_event)


def retire(scope: Scope, on_event: OnEvent) -> dict[str, ClusterAIError]:
    """Trust our root alone. Hosts that can't be reached trust the others still."""
    vault = Vault.of(scope.config)
    if rotation.begun(vault.read()):
        raise ConfigError("a change of the root is under way", remedy="cluster-ai certs rotate root goes on with it")
    vault.change(rotation.retired)
    return give(scope, on_event)


def give(scope: Scope, on_event: OnEvent) -> dict[str, ClusterAIError]:
    """New certificates for all hosts, which what runs there takes up. The reason for each host that got none."""
    targets = [
        HostTarget(host.name, host.address, "", "", (), (), credentials.files(scope.config, host))
        for host in scope.hosts
    ]
    outcomes = renew(scope.config, targets, sudo_password=scope.sudo_password, on_event=on_event)
    failed: dict[str, ClusterAIError] = {name: it.error for name, it in outcomes.items() if it.error}
    head = scope.head.name
    if head not in failed:
        reply = ssh.run(ssh.calls(scope.argv([head]), RESTART), sudo_password=scope.sudo_password)[head]
        if isinstance(reply, HostError):
            failed[head] = reply
        elif reply.returncode:
            failed[head] = HostError(f"{layout.ISSUER} doesn't start", where=head, remedy=reply.stderr.strip())
    return failed


def require_ready(seen: Mapping[str, Observed | HostError]) -> None:
    """Raise where a host can't be told: nothing was changed yet."""
    for host, it in seen.items():
        if isinstance(it, HostError):
            raise it
        if it.certificate is None:
            raise HostError("has no certificate of this kind yet", where=host, remedy="cluster-ai apply, first")
