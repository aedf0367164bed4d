"""TLS 1.3 towards people, who show no certificate: of gateway and dashboard, from files that are replaced meanwhile."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from cluster_ai import layout
from cluster_ai.errors import ConfigError
from cluster_ai.settings import Shown
from cluster_ai.tls import live


class Public(live.Reread):
    """A server's context with one certificate and its key.

    Raises OSError or ssl.SSLError where they can't be used at first; later it goes on with the last that could.
    """

    def __new__(cls, cert: Path, key: Path) -> Public:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, cert: Path, key: Path) -> None:
        self.cert, self._key = cert, key
        self.begin((cert, key))

    def load(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.set_alpn_protocols(["http/1.1"])
        folder = self.cert.parent.resolve()  # a link that is set anew: both are of one generation
        made.load_cert_chain(folder / self.cert.name, folder / self._key.name)
        return made


def public(shows: Shown, environ: Mapping[str, str]) -> Public:
    """Of this process. Raises ConfigError where its files can't be used."""
    if shows == "host":
        place, names = live.folder(environ), (layout.CERT, layout.KEY)
    else:
        found = environ.get("CREDENTIALS_DIRECTORY")
        place, names = Path(found) if found else None, (layout.PUBLIC_CERT, layout.PUBLIC_KEY)
    try:
        if place is None:
            raise FileNotFoundError("nobody says where it is")
        return Public(place / names[0], place / names[1])
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the certificate for people can't be used: {error}",
            where=str(place / names[0]) if place else "$CREDENTIALS_DIRECTORY",
            remedy="`cluster-ai apply` puts it there; security.tls in cluster.yaml says which it is",
        ) from error
