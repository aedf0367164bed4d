"""The cluster's secrets, and which of them each host gets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cluster_ai import layout
from cluster_ai.config.model import Config, Host
from cluster_ai.errors import ConfigError
from cluster_ai.security.files import write
from cluster_ai.security.vault import Vault

CA_CERT, CA_KEY, TOKEN = "ca_cert", "ca_key", "gateway_token"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    ca_cert: bytes
    ca_key: bytes
    gateway_token: str


def load_or_create(config: Config) -> Secrets:
    """Open the vault, and put into it what it lacks. The CA's certificate, no secret, is in .cluster-ai/ca.pem too."""
    folder = config.path.resolve().parent
    vault = Vault.of(config)
    found = vault.read()
    if (CA_CERT in found) != (CA_KEY in found):
        missing = CA_KEY if CA_CERT in found else CA_CERT
        raise ConfigError(
            f"{missing} is missing in it", where=str(vault.path), remedy="ansible-vault edit secrets.yaml"
        )
    new = dict(found)
    if CA_KEY not in new:
        from cluster_ai.security import ca

        pair = ca.create(config.name)
        new |= {CA_CERT: pair.cert.decode(), CA_KEY: pair.key.decode()}
    new.setdefault(TOKEN, secrets.token_hex(32))
    if new != found:
        vault.write(new)
    public = folder / ".cluster-ai" / layout.CA_CERT
    if not public.exists() or public.read_text() != new[CA_CERT]:
        write(public, new[CA_CERT].encode())
        public.chmod(0o644)
    return Secrets(new[CA_CERT].encode(), new[CA_KEY].encode(), new[TOKEN])


def for_host(secrets: Secrets, host: Host) -> dict[str, bytes]:
    """The files of layout.CREDENTIALS on a host, by name; the certificate is a new one each time."""
    from cluster_ai.security import ca

    head = "head" in host.roles
    sans = [host.address, host.name, "localhost", "127.0.0.1", "::1"]
    pair = ca.issue(ca.Pair(secrets.ca_cert, secrets.ca_key), host.name, sans, "head" if head else "worker")
    files = {layout.CA_CERT: secrets.ca_cert, layout.CERT: pair.cert, layout.KEY: pair.key}
    return files | ({layout.GATEWAY_TOKEN: secrets.gateway_token.encode() + b"\n"} if head else {})
