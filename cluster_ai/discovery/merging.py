"""What several ways saw, put together to machines. Pure.

Only what was observed makes two addresses one machine: the SSH host key that both proved to have, or the MAC in our own
neighbour table. What a machine says of itself (a name, a key's fingerprint) is shown, and joins nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cluster_ai.discovery.packets import Announcement
from cluster_ai.inventory.known_hosts import HostKey

Way = Literal["beacon", "mdns", "ssdp", "scan"]
WAYS: tuple[Way, ...] = ("beacon", "mdns", "ssdp", "scan")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One address, seen in one way."""

    way: Way
    address: str
    name: str = ""
    software: str = ""  # its SSH server's banner
    system: str = ""
    announcement: Announcement | None = None
    at: tuple[str, int] | None = None  # where an answer to the announcement goes


@dataclass(frozen=True, slots=True)
class Machine:
    addresses: tuple[str, ...]  # the best first
    ways: tuple[Way, ...]
    name: str = ""
    software: str = ""  # empty: no SSH server answered
    system: str = ""
    mac: str = ""
    key: HostKey | None = None
    announcement: Announcement | None = None
    at: tuple[str, int] | None = None

    @property
    def address(self) -> str:
        return self.addresses[0]


def merge(
    sightings: Iterable[Sighting], keys: Mapping[str, HostKey] | None = None, macs: Mapping[str, str] | None = None
) -> list[Machine]:
    """Machines, sorted by address. keys and macs: what was observed, by address."""
    keys, macs = keys or {}, macs or {}
    seen: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        seen.setdefault(sighting.address, []).append(sighting)
    groups: dict[str, list[str]] = {}
    by_mac: dict[str, set[str]] = {}  # fingerprints behind a MAC
    for address in seen:
        if address in keys and address in macs:
            by_mac.setdefault(macs[address], set()).add(keys[address].fingerprint)
    for address in sorted(seen, key=preference):
        groups.setdefault(_identity(address, keys, macs, by_mac), []).append(address)
    machines = [_machine(addresses, seen, keys, macs) for addresses in groups.values()]
    return sorted(machines, key=lambda machine: preference(machine.address))


def preference(address: str) -> tuple[int, int, int, str]:
    """Addresses that can stand in cluster.yaml first; IPv4 before IPv6."""
    text, _, scope = address.partition("%")
    found = ipaddress.ip_address(text)
    return (int(found.is_link_local), found.version, int(found), scope)


def _identity(
    address: str, keys: Mapping[str, HostKey], macs: Mapping[str, str], by_mac: Mapping[str, set[str]]
) -> str:
    if address in keys:
        return keys[address].fingerprint
    mac = macs.get(address)
    if mac is None:
        return address
    behind = by_mac.get(mac, set())
    return next(iter(behind)) if len(behind) == 1 else mac if not behind else address


def _machine(
    addresses: list[str], seen: Mapping[str, list[Sighting]], keys: Mapping[str, HostKey], macs: Mapping[str, str]
) -> Machine:
    all_of = sorted(
        (sighting for address in addresses for sighting in seen[address]), key=lambda it: WAYS.index(it.way)
    )
    said = next((it for it in all_of if it.announcement), None)
    return Machine(
        addresses=tuple(addresses),
        ways=tuple(way for way in WAYS if any(it.way == way for it in all_of)),
        name=next((it.name for it in all_of if it.name), ""),
        software=next((it.software for it in all_of if it.software), ""),
        system=next((it.system for it in all_of if it.system), ""),
        mac=next((macs[address] for address in addresses if address in macs), ""),
        key=next((keys[address] for address in addresses if address in keys), None),
        announcement=said.announcement if said else None,
        at=said.at if said else None,
    )
