"""Whom this machine believes to be the gateway: its own CAs, and the cluster's, which are kept beside cluster.yaml."""

from __future__ import annotations

import ssl
from pathlib import Path

from cluster_ai import layout

ROOTS = Path(".cluster-ai", layout.CA_CERT)  # in the folder of cluster.yaml


def trusting(roots: Path | None) -> ssl.SSLContext:
    """A client's context. roots: a PEM file; it counts where it is there."""
    made = ssl.create_default_context()  # $SSL_CERT_FILE counts here
    if roots is not None and roots.is_file():
        made.load_verify_locations(roots)
    return made
