"""The cluster's secrets, and which of them each host gets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cluster_ai import layout
from cluster_ai.config.model import Config, Host, hosts
from cluster_ai.errors import ConfigError
from cluster_ai.security.files import write
from cluster_ai.security.vault import Vault

if TYPE_CHECKING:
    from cluster_ai.security.ca import Pair

TOKEN = "gateway_token"  # noqa: S105 (its name in the vault)
# Names in the vault. The root's key may be taken out and kept elsewhere: it is needed to make an issuing CA.
ROOT_CERT, ROOT_KEY, ISSUING_CERT, ISSUING_KEY = "root_cert", "root_key", "issuing_cert", "issuing_key"
TRUSTED = "trusted_certs"  # roots that are trusted beside ours: the one before, and the one to come
OIDC_SECRET = "oidc_secret"  # noqa: S105 (its name in the vault)
PUBLIC_KEY = "tls_key"  # of security.tls.certificate
ALERTS_TOKEN, ALERTS_PASSWORD = "alerts_webhook_token", "alerts_mail_password"
# Of clusters from before there was a root: one CA for everything. Its key goes to no host, so nothing renews itself.
OLD_CERT, OLD_KEY = "ca_cert", "ca_key"
_PAIRS = ((ROOT_CERT, ROOT_KEY), (ISSUING_CERT, ISSUING_KEY), (OLD_CERT, OLD_KEY))


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    trust: bytes  # certificates of all roots that count, ours first
    issuing: Pair
    renews: bool  # hosts renew their certificates by themselves
    gateway_token: str
    alerts_token: str  # of monitoring.alerts.webhook, a line: an empty one where it wants none
    alerts_password: str  # of monitoring.alerts.mail.user; empty: nobody logs in
    oidc_secret: str  # "" where no OpenID provider is named
    public: Pair | None  # what gateway and dashboard show to people; None: the head host's own


def load_or_create(config: Config) -> Secrets:
    """Open the vault, and put into it what it lacks. Roots' certificates, no secret, are in .cluster-ai/ca.pem too."""
    folder = config.path.resolve().parent
    vault = Vault.of(config)
    new = vault.change(lambda found: completed(found, config.name, str(vault.path)))
    trust = trusted(new)
    public = folder / ".cluster-ai" / layout.CA_CERT
    if not public.exists() or public.read_bytes() != trust:
        write(public, trust)
        public.chmod(0o644)
    from cluster_ai.security import ca

    renews = OLD_CERT not in new
    cert, key = (ISSUING_CERT, ISSUING_KEY) if renews else (OLD_CERT, OLD_KEY)
    issuing = ca.Pair(new[cert].encode(), new[key].encode())
    where = str(vault.path)
    return Secrets(
        trust=trust,
        issuing=issuing,
        renews=renews,
        gateway_token=new[TOKEN],
        alerts_token=new.get(ALERTS_TOKEN, "") + "\n" if config.monitoring.alerts.webhook else "",
        alerts_password=_mail_password(config, new, where),
        oidc_secret=_oidc_secret(config, new, where),
        public=_public(config, new, where),
    )


def _needed(found: Mapping[str, str], name: str, what: str, where: str, give: str = "") -> str:
    """A secret that only a person can put there."""
    if not found.get(name):
        remedy = f"cluster-ai secrets set {name}{give}"
        raise ConfigError(f"there is no {name}, {what}", where=where, remedy=remedy)
    return found[name]


def _mail_password(config: Config, found: Mapping[str, str], where: str) -> str:
    mail = config.monitoring.alerts.mail
    if mail is None or mail.user is None:
        return ""
    return _needed(found, ALERTS_PASSWORD, "the password of monitoring.alerts.mail.user", where)


def _oidc_secret(config: Config, found: Mapping[str, str], where: str) -> str:
    oidc = config.security.oidc
    if oidc is None or not config.interface.dashboard:
        return ""
    return _needed(found, OIDC_SECRET, f"the dashboard's at {oidc.issuer}", where).strip()


def _public(config: Config, found: Mapping[str, str], where: str) -> Pair | None:
    """The certificate that cluster.yaml names, with its key."""
    tls = config.security.tls
    if not tls.enabled or tls.certificate is None:
        return None
    key = _needed(found, PUBLIC_KEY, "the key of security.tls.certificate", where, " < key.pem")
    from cluster_ai.security import ca

    try:
        pair = ca.Pair(tls.certificate.read_bytes(), key.encode())
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(tls.certificate)) from error
    if wrong := ca.unfit(pair, config.scheduler.host):
        remedy = f"another certificate, or its own key: cluster-ai secrets set {PUBLIC_KEY} < key.pem"
        raise ConfigError(wrong, where=str(tls.certificate), remedy=remedy)
    return pair


def completed(found: Mapping[str, str], cluster: str, where: str) -> dict[str, str]:
    """A vault's content with what it lacks. An issuing CA in the last third of its life is made anew."""
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
    new.setdefault(TOKEN, secrets.token_hex(32))
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
    return files | (for_head(secrets) if head else {})


def for_head(secrets: Secrets) -> dict[str, bytes]:
    """What only the head host has. Empty: what there is no use for.

    That is the issuing CA where hosts don't renew their certificates, and what people are shown where that is the head
    host's own certificate.
    """
    public = secrets.public
    return {
        layout.OIDC_SECRET: secrets.oidc_secret.encode(),
        layout.PUBLIC_CERT: public.cert if public else b"",
        layout.PUBLIC_KEY: public.key if public else b"",
        layout.GATEWAY_TOKEN: secrets.gateway_token.encode() + b"\n",
        layout.ALERTS_TOKEN: secrets.alerts_token.encode(),
        layout.ALERTS_PASSWORD: secrets.alerts_password.encode(),
        layout.ISSUING_CERT: secrets.issuing.cert if secrets.renews else b"",
        layout.ISSUING_KEY: secrets.issuing.key if secrets.renews else b"",
    }
