"""What only people can put into the vault, for what cluster.yaml asks for; looked at when it goes to the head host.

Not before: a certificate that has ended must keep nobody from asking how the cluster is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster_ai.config.model import Config
from cluster_ai.errors import ConfigError
from cluster_ai.security import ca

OIDC_SECRET = "oidc_secret"  # noqa: S105 (its name in the vault)
PUBLIC_KEY = "tls_key"  # of security.tls.certificate
ALERTS_TOKEN, ALERTS_PASSWORD = "alerts_webhook_token", "alerts_mail_password"


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    alerts_token: str  # of monitoring.alerts.webhook, a line: an empty one where it wants none
    alerts_password: str  # of monitoring.alerts.mail.user; empty: nobody logs in
    oidc_secret: str  # "" where no OpenID provider is named
    public: ca.Pair | None  # what gateway and dashboard show to people; None: the head host's own


def given(config: Config, found: Mapping[str, str]) -> Given:
    """found: the vault's content. Raises ConfigError where something is missing, or a certificate unfit."""
    where = str(config.path.resolve().parent / "secrets.yaml")
    return Given(
        alerts_token=found.get(ALERTS_TOKEN, "") + "\n" if config.monitoring.alerts.webhook else "",
        alerts_password=_mail_password(config, found, where),
        oidc_secret=_oidc_secret(config, found, where),
        public=_public(config, found, where),
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
    if oidc is None or not (config.interface.dashboard or config.interface.open_webui):
        return ""
    return _needed(found, OIDC_SECRET, f"the dashboard's at {oidc.issuer}", where).strip()


def _public(config: Config, found: Mapping[str, str], where: str) -> ca.Pair | None:
    """The certificate that cluster.yaml names, with its key."""
    tls = config.security.tls
    if not tls.enabled or tls.certificate is None:
        return None
    key = _needed(found, PUBLIC_KEY, "the key of security.tls.certificate", where, " < key.pem")
    try:
        pair = ca.Pair(tls.certificate.read_bytes(), key.encode())
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(tls.certificate)) from error
    if wrong := ca.unfit(pair, config.scheduler.host):
        remedy = f"another certificate, or its own key: cluster-ai secrets set {PUBLIC_KEY} < key.pem"
        raise ConfigError(wrong, where=str(tls.certificate), remedy=remedy)
    return pair
