"""What hosts' credentials must be, as hashes: comparing them opens the vault only where secrets.yaml is another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from cluster_ai import layout
from cluster_ai.config.model import Config, Host
from cluster_ai.security.credentials import Secrets, for_host, load_or_create


def sums(config: Config) -> dict[str, str]:
    """File name in layout.CREDENTIALS -> SHA-256; of no file's where there are no secrets yet."""
    folder = config.path.resolve().parent
    try:
        sealed = hashlib.sha256((folder / "secrets.yaml").read_bytes()).hexdigest()
    except FileNotFoundError:
        return dict.fromkeys((layout.CA_CERT, layout.GATEWAY_TOKEN), "")
    cache = folder / ".cluster-ai" / "secrets-sums.json"
    try:
        kept = json.loads(cache.read_bytes())
        if kept["sealed"] == sealed:
            return dict(kept["sums"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = _sums(load_or_create(config))
    cache.parent.mkdir(exist_ok=True)
    cache.write_text(json.dumps({"sealed": sealed, "sums": found}))
    return found


def of_host(all_sums: Mapping[str, str], host: Host) -> dict[str, str]:
    """Those of them that a host has."""
    return {name: digest for name, digest in all_sums.items() if name != layout.GATEWAY_TOKEN or "head" in host.roles}


def files(config: Config, host: Host) -> dict[str, str]:
    """New credentials for a host: file name -> text."""
    return {name: content.decode() for name, content in for_host(load_or_create(config), host).items()}


def token(config: Config) -> str:
    """The gateway's bearer token."""
    return load_or_create(config).gateway_token


def _sums(secrets: Secrets) -> dict[str, str]:
    token_file = secrets.gateway_token.encode() + b"\n"
    content = {layout.CA_CERT: secrets.ca_cert, layout.GATEWAY_TOKEN: token_file}
    return {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}
