"""Until when this host's certificates are valid: its own, the one for people, and the CA that renews others'."""

from __future__ import annotations

from pathlib import Path

from cluster_ai import layout
from cluster_ai.tls.validity import of_pem


def ends(tls: Path, credentials: Path) -> dict[str, float]:
    """By what each is for, seconds since 1970; of those that are there. tls, credentials: as layout has the folders."""
    places = {
        "host": tls / layout.CERT,
        "people": credentials / layout.PUBLIC_CERT,
        "issuing": credentials / layout.ISSUING_CERT,
    }
    found = {}
    for what, path in places.items():
        try:
            found[what] = float(of_pem(path.read_text()).end)
        except (OSError, ValueError):  # not there, or empty: this host has none; what is no certificate serves nobody
            continue
    return found
