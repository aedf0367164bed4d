"""What comes from the network, read: datagrams of ours, SSH banners, neighbour tables. Pure; none of it is believed.

A datagram of ours is `cluster-ai/1 MAC JSON`. The MAC is HMAC-SHA-256 over the JSON as it was sent, with the secret of
a join token, or `-` where the machine has none. discovery/join.py, which runs on bare machines, writes the same.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from cluster_ai.addresses import is_address

MAGIC = "cluster-ai/1"
LARGEST = 1400  # bytes of a datagram; one that is larger is not read
LONGEST = 64  # characters of a text of another machine that are shown
MANY = 16  # cards, or keys, of one machine
_HEX = re.compile(r"[0-9a-f]{32}")
_MAC = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[a-z2-7]{6}")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SYSTEMS = ("Debian", "Ubuntu", "Raspbian", "FreeBSD", "Windows", "dropbear", "Cisco")
Kind = Literal["ask", "here", "welcome", "refused", "joined"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a machine that wants to join says of itself. Only `proven` by a token is any of it to be acted on."""

    nonce: str  # of this run of the script there: an answer to another run is worth nothing
    name: str
    system: str
    arch: str
    cores: int
    memory: int  # bytes
    gpus: tuple[str, ...]
    keys: tuple[str, ...]  # fingerprints of its SSH host keys
    token: str  # id of its join token; empty: it has none
    cluster: str  # which cluster it wants to join: the beginning of the fingerprint of its CA
    mac: str
    signed: bytes  # what the MAC is over

    def proven(self, secret: bytes) -> bool:
        """Whether the token's secret was known where this was made."""
        return bool(self.mac) and hmac.compare_digest(self.mac, seal(self.signed, secret))


@dataclass(frozen=True, slots=True)
class Word:
    """One of the small datagrams: ask, welcome, refused or joined."""

    kind: Kind
    nonce: str
    token: str
    mac: str
    signed: bytes

    def proven(self, secret: bytes) -> bool:
        return bool(self.mac) and hmac.compare_digest(self.mac, seal(self.signed, secret))


def seal(signed: bytes, secret: bytes) -> str:
    return hmac.new(secret, signed, "sha256").hexdigest()


def datagram(content: dict[str, Any], secret: bytes = b"") -> bytes:
    signed = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return b" ".join((MAGIC.encode(), seal(signed, secret).encode() if secret else b"-", signed))


def read(data: bytes) -> Announcement | Word | None:
    """A datagram of ours; None for any other, whatever it is."""
    if len(data) > LARGEST:
        return None
    magic, _, rest = data.partition(b" ")
    mac, _, signed = rest.partition(b" ")
    if magic != MAGIC.encode() or not (mac == b"-" or _MAC.fullmatch(mac.decode("latin-1"))):
        return None
    try:
        told = json.loads(signed)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    seal_of = "" if mac == b"-" else mac.decode()
    kind, nonce, token = told.get("kind"), told.get("nonce"), told.get("token", "")
    if not isinstance(nonce, str) or not isinstance(token, str) or not _HEX.fullmatch(nonce):
        return None
    if token and not _ID.fullmatch(token):
        return None
    if kind in ("ask", "welcome", "refused", "joined"):
        return Word(kind, nonce, token, seal_of, signed)
    return _announcement(told, nonce, token, seal_of, signed) if kind == "here" else None


def _announcement(told: dict[str, Any], nonce: str, token: str, mac: str, signed: bytes) -> Announcement | None:
    keys, gpus = told.get("keys"), told.get("gpus")
    cores, memory = (_number(told.get(key), most) for key, most in _NUMBERS)
    if not isinstance(keys, list) or not isinstance(gpus, list) or None in (cores, memory):
        return None
    if len(keys) > MANY or len(gpus) > MANY or not all(_is(key, _FINGERPRINT) for key in keys):
        return None
    name, system, arch, cluster = (told.get(key) for key in ("name", "system", "arch", "cluster"))
    return Announcement(
        nonce=nonce,
        name=clean(name),
        system=clean(system),
        arch=clean(arch),
        cores=cores or 0,
        memory=memory or 0,
        gpus=tuple(clean(gpu) for gpu in gpus),
        keys=tuple(keys),
        token=token,
        cluster=clean(cluster),
        mac=mac,
        signed=signed,
    )


_NUMBERS = (("cores", 4096), ("memory", 1 << 50))


def _number(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def _is(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def clean(value: object) -> str:
    """A text of another machine so that it can be shown: one short line, without control characters."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * LONGEST]).split())[:LONGEST]


def name_in(text: str) -> str:
    """What of a machine's own name is a name for cluster.yaml; empty where nothing is."""
    first = text.partition(".")[0] if not is_address(text) else ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", first).strip("-_")[:63].strip("-_")


def banner(data: bytes) -> str | None:
    """What an SSH server says first, such as `OpenSSH_9.2p1 Debian-2`; None where it is no SSH server."""
    for line in data[:4096].splitlines()[:8]:  # a server may say something else before (RFC 4253, 4.2)
        if line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
            return clean(line.split(b"-", 2)[2].decode("ascii", "replace")) or "SSH"
    return None


def system_of(software: str) -> str:
    """The operating system that a banner or an SSDP `SERVER` names; empty where it names none that we know."""
    return next((system for system in _SYSTEMS if system.lower() in software.lower()), "")


def neighbours(text: str) -> dict[str, str]:
    """Address -> MAC, from `ip -j neigh show`; link-local addresses with their interface, as `fe80::1%eth0`."""
    try:
        rows = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return {}
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        address, mac, device, state = (row.get(key) for key in ("dst", "lladdr", "dev", "state"))
        if not isinstance(address, str) or not _is(mac, _ETHERNET) or not isinstance(device, str):
            continue
        if not is_address(address) or (isinstance(state, list) and "FAILED" in state):
            continue
        local = ipaddress.ip_address(address).is_link_local and ":" in address
        found[f"{address}%{device}" if local else address] = str(mac)
    return found
