"""The cluster's secrets, and which of them each host gets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cluster_ai import layout
from cluster_ai.config.model import Config, Host, hosts
from cluster_ai.errors import ConfigError
from cluster_ai.security.files import write
from cluster_ai.security.vault import Vault
from cluster_ai.sizes import counted

if TYPE_CHECKING:
    from cluster_ai.security.ca import Pair

TOKEN = "gateway_token"  # noqa: S105 (its name in the vault)
OPEN_WEBUI = ("open_webui_key", "open_webui_secret")  # for the gateway, and for its sessions
# Names in the vault. The root's key may be taken out and kept elsewhere: it is needed to make an issuing CA.
ROOT_CERT, ROOT_KEY, ISSUING_CERT, ISSUING_KEY = "root_cert", "root_key", "issuing_cert", "issuing_key"
TRUSTED = "trusted_certs"  # roots that are trusted beside ours: the one before, and the one to come
# Of clusters from before there was a root: one CA for everything. Its key goes to no host, so nothing renews itself.
OLD_CERT, OLD_KEY = "ca_cert", "ca_key"
_BRING = "bring it from the folder or repository that the cluster was applied from"
_PAIRS = ((ROOT_CERT, ROOT_KEY), (ISSUING_CERT, ISSUING_KEY), (OLD_CERT, OLD_KEY))


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    trust: bytes  # certificates of all roots that count, ours first
    issuing: Pair
    renews: bool  # hosts renew their certificates by themselves
    gateway_token: str
    vault: Mapping[str, str]  # all that is in it


def existing(config: Config) -> Secrets:
    """Open the vault of a cluster that has one; who only looks at a cluster makes none. ConfigError: none here."""
    vault = Vault.of(config)
    if not vault.exists():
        raise ConfigError(
            "is not there: it has the gateway's token and the CA's keys",
            where=str(vault.path),
            remedy=f"{_BRING}; the first cluster-ai apply makes it",
        )
    return load_or_create(config)


def require_first(config: Config, certificates: Mapping[str, bytes]) -> None:
    """Where there is no vault: raise if hosts have certificates (host -> DER) of this cluster, which then has one.

    A new vault's CA would give all hosts new identities, and its token lock out all clients.
    """
    from cluster_ai.security import ca

    known = [host for host, cert in certificates.items() if ca.issued_in(config.name, cert)]
    if known:
        more = f" and {counted(len(known) - 1, 'more host')}" if known[1:] else ""
        raise ConfigError(
            f"is not there, but certificates of cluster {config.name!r} are on {known[0]}{more}: it has the CA's keys",
            where=str(Vault.of(config).path),
            remedy=f"{_BRING}, and its password (docs/security.md); "
            "if they are lost, another cluster.name makes a new cluster of these hosts",
        )


def load_or_create(config: Config) -> Secrets:
    """Open the vault, and put into it what it lacks. Roots' certificates, no secret, are in .cluster-ai/ca.pem too."""
    folder = config.path.resolve().parent
    vault = Vault.of(config)
    also = OPEN_WEBUI if config.interface.open_webui else ()
    new = vault.change(lambda found: completed(found, config.name, str(vault.path), also))
    trust = trusted(new)
    public = folder / ".cluster-ai" / layout.CA_CERT
    if not public.exists() or public.read_bytes() != trust:
        write(public, trust)
        public.chmod(0o644)
    from cluster_ai.security import ca

    renews = OLD_CERT not in new
    cert, key = (ISSUING_CERT, ISSUING_KEY) if renews else (OLD_CERT, OLD_KEY)
    issuing = ca.Pair(new[cert].encode(), new[key].encode())
    return Secrets(trust, issuing, renews, new[TOKEN], new)


def completed(found: Mapping[str, str], cluster: str, where: str, also: Sequence[str] = ()) -> dict[str, str]:
    """A vault's content with what it lacks. An issuing CA in the last third of its life is made anew.

    also: names of random texts that it must have besides.
    """
    for cert, key in _PAIRS:
        missing = cert if key in found and cert not in found else ""
        if cert in found and key not in found and key != ROOT_KEY:
            missing = key
        if missing:
            raise ConfigError(f"{missing} is missing in it", where=where, remedy="ansible-vault edit secrets.yaml")
    from cluster_ai.security import ca

    new = dict(found)
    if OLD_CERT not in new and ROOT_CERT not in new:
        root = ca.create(cluster)
        new |= {ROOT_CERT: root.cert.decode(), ROOT_KEY: root.key.decode()}
    if OLD_CERT not in new and issuing_due(new):
        new |= issuing(new, cluster, where)
    for name in (TOKEN, *also):
        new.setdefault(name, secrets.token_hex(32))
    return new


def issuing(found: Mapping[str, str], cluster: str, where: str) -> dict[str, str]:
    """A new issuing CA, by the names in the vault."""
    from cluster_ai.security import ca

    if ROOT_KEY not in found:
        raise ConfigError(
            "a new issuing CA is needed, and the root's key isn't in it",
            where=where,
            remedy=f"bring it for this run: ansible-vault edit secrets.yaml, {ROOT_KEY}: ...",
        )
    made = ca.delegate(ca.Pair(found[ROOT_CERT].encode(), found[ROOT_KEY].encode()), cluster)
    return {ISSUING_CERT: made.cert.decode(), ISSUING_KEY: made.key.decode()}


def issuing_due(found: Mapping[str, str], now: datetime | None = None) -> bool:
    if ISSUING_CERT not in found:
        return True
    from cluster_ai.security import ca

    return ca.expiry(found[ISSUING_CERT].encode()) - (now or datetime.now(UTC)) < ca.ISSUING_LIFETIME / 3


def trusted(found: Mapping[str, str]) -> bytes:
    """Certificates of the roots that count."""
    return (found.get(OLD_CERT) or found[ROOT_CERT]).encode() + found.get(TRUSTED, "").encode()


def names(config: Config) -> bytes:
    """Of the hosts whose certificates count, a line each."""
    return "".join(f"{name}\n" for name in sorted(host.name for host in hosts(config))).encode()


def for_host(secrets: Secrets, config: Config, host: Host) -> dict[str, bytes]:
    """A host's credentials by name, those for TLS with their folder; the certificate is a new one each time."""
    from cluster_ai.security import ca

    head = "head" in host.roles
    lifetime = ca.LIFETIME if secrets.renews else ca.LONG
    pair = ca.issue(secrets.issuing, host.name, host.sans, "head" if head else "worker", lifetime=lifetime)
    tls = {
        layout.CA_CERT: secrets.trust,
        layout.CERT: pair.cert,
        layout.KEY: pair.key,
        layout.HOSTS: names(config),
    }
    files = {f"{layout.IN_TLS}{name}": content for name, content in tls.items()}
    return files | (for_head(secrets, config) if head else {})


def for_head(secrets: Secrets, config: Config) -> dict[str, bytes]:
    """What only the head host has. Empty: what there is no use for, as the issuing CA where hosts renew nothing.

    Raises ConfigError where people have to put something into the vault.
    """
    from cluster_ai.security.given import given

    theirs = given(config, secrets.vault)
    key, sessions = ((secrets.vault[it] if config.interface.open_webui else "").encode() for it in OPEN_WEBUI)
    return {
        layout.GATEWAY_TOKEN: secrets.gateway_token.encode() + b"\n",
        layout.ISSUING_CERT: secrets.issuing.cert if secrets.renews else b"",
        layout.ISSUING_KEY: secrets.issuing.key if secrets.renews else b"",
        layout.ALERTS_TOKEN: theirs.alerts_token.encode(),
        layout.ALERTS_PASSWORD: theirs.alerts_password.encode(),
        layout.OIDC_SECRET: theirs.oidc_secret.encode(),
        layout.OPEN_WEBUI_KEY: key,
        layout.OPEN_WEBUI_SECRET: sessions,
        layout.PUBLIC_CERT: theirs.public.cert if theirs.public else b"",
        layout.PUBLIC_KEY: theirs.public.key if theirs.public else b"",
    }
