"""What hosts' credentials must be, as hashes: comparing them opens the vault only where secrets.yaml is another one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from cluster_ai import layout
from cluster_ai.config.model import Config, Host
from cluster_ai.security.credentials import Secrets, existing, for_head, for_host, load_or_create, names

TRUST, REGISTERED = f"{layout.IN_TLS}{layout.CA_CERT}", f"{layout.IN_TLS}{layout.HOSTS}"
ON_HEAD = (
    layout.GATEWAY_TOKEN,
    layout.ISSUING_CERT,
    layout.PUBLIC_CERT,
    layout.OIDC_SECRET,
    layout.ALERTS_TOKEN,
    layout.ALERTS_PASSWORD,
    layout.OPEN_WEBUI_KEY,
    layout.OPEN_WEBUI_SECRET,
)


def sums(config: Config) -> dict[str, str]:
    """Name of a credential that is the same on all hosts -> SHA-256; of no file's where there are no secrets yet."""
    registered = {REGISTERED: hashlib.sha256(names(config)).hexdigest()}
    folder = config.path.resolve().parent
    try:
        sealed = _sealed(config)
    except FileNotFoundError:
        return dict.fromkeys((TRUST, *ON_HEAD), "") | registered
    cache = folder / ".cluster-ai" / "secrets-sums.json"
    try:
        kept = json.loads(cache.read_bytes())
        if kept["sealed"] == sealed and time.time() < kept["until"]:
            return dict(kept["sums"]) | registered
    except (OSError, ValueError, KeyError, TypeError):
        pass
    secrets = load_or_create(config)
    cache.parent.mkdir(exist_ok=True)
    found: dict[str, Any] = {"sealed": _sealed(config), "sums": _sums(secrets, config), "until": _until(secrets)}
    cache.write_text(json.dumps(found))
    return dict(found["sums"]) | registered


def _sealed(config: Config) -> str:
    """Another one when what secrets are made of is: without opening the vault."""
    tls = config.security.tls
    public = tls.certificate.read_bytes() if tls.enabled and tls.certificate else b""
    secrets = (config.path.resolve().parent / "secrets.yaml").read_bytes()
    asked = (config.security.oidc, config.monitoring.alerts, config.interface, config.scheduler.host)
    told = (repr(it).encode() for it in asked)
    return " ".join(hashlib.sha256(it).hexdigest() for it in (secrets, public, *told))


def of_host(all_sums: Mapping[str, str], host: Host) -> dict[str, str]:
    """Those of them that a host has."""
    return {name: digest for name, digest in all_sums.items() if name not in ON_HEAD or "head" in host.roles}


def files(config: Config, host: Host) -> dict[str, str]:
    """New credentials for a host: name -> text."""
    return {name: content.decode() for name, content in for_host(load_or_create(config), config, host).items()}


def token(config: Config) -> str:
    """The gateway's bearer token. ConfigError where there is none yet."""
    return existing(config).gateway_token


def _sums(secrets: Secrets, config: Config) -> dict[str, str]:
    content = {TRUST: secrets.trust, **{name: it for name, it in for_head(secrets, config).items() if name in ON_HEAD}}
    return {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}


def _until(secrets: Secrets) -> float:
    """When the issuing CA is to be made anew, which opening the vault does."""
    from cluster_ai.security import ca

    end = ca.expiry(secrets.issuing.cert)
    return (end - ca.ISSUING_LIFETIME / 3 if secrets.renews else end).timestamp()
