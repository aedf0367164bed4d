"""Dask's connections over live contexts."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from distributed.security import Security

from cluster_ai import layout
from cluster_ai.tls.live import Live


class LiveSecurity(Security):  # type: ignore[misc]  # distributed has no types
    """Mutual TLS 1.3 over the files of a folder. Hosts are known by addresses that certificates needn't name."""

    def _get_tls_context(self, tls: dict[str, Any], purpose: ssl.Purpose) -> ssl.SSLContext | None:
        if not (tls.get("ca_file") and tls.get("cert")):
            return None
        return Live(Path(tls["cert"]).parent, server=purpose is ssl.Purpose.CLIENT_AUTH, check_hostname=False)


def security(place: Path) -> LiveSecurity:
    """For a client of the scheduler."""
    return LiveSecurity(
        tls_ca_file=str(place / layout.CA_CERT),
        tls_client_cert=str(place / layout.CERT),
        tls_client_key=str(place / layout.KEY),
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        require_encryption=True,
    )
