"""IP addresses and host names as texts."""

from __future__ import annotations

import ipaddress


def is_address(text: str) -> bool:
    """Of IPv4 or IPv6, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """An address of the machine itself, or its name `localhost`."""
    return text == "localhost" or (is_address(text) and ipaddress.ip_address(text).is_loopback)


def in_url(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
