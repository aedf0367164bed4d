"""The networks that this machine is in, and which of their addresses may be tried."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cluster_ai.errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
WIDEST = 4096  # addresses that are tried one by one in all
USUAL = 24  # of a network that is wider than 1024 addresses and that nobody named: the /24 around our address


@dataclass(frozen=True, slots=True)
class Own:
    """An address of this machine. index: of its interface, as the scope of link-local addresses."""

    address: Address
    network: Network
    interface: str
    index: int


def own() -> list[Own]:
    """This machine's addresses, without loopback."""
    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text.partition("%")[0])
            network = ipaddress.ip_network(f"{address}/{ip.network_prefix}", strict=False)
            if not address.is_loopback:
                found.append(Own(address, network, str(adapter.name), adapter.index or 0))
    return found


def chosen(mine: Sequence[Own], wanted: Sequence[Network]) -> list[Own]:
    """Addresses of ours from which to look: in a private network that is wanted, all private ones where none is named.

    Link-local ones only of interfaces that have another, so that the ends of containers' cables are left alone.
    """
    routable = [it for it in mine if it.address.is_private and not it.address.is_link_local]
    if wanted:
        routable = [it for it in mine if not it.address.is_link_local and any(overlap(it.network, n) for n in wanted)]
    interfaces = {it.interface for it in routable}
    local = [it for it in mine if it.address.version == 6 and it.address.is_link_local and it.interface in interfaces]
    return routable + local


def parse(texts: Iterable[str]) -> list[Network]:
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            remedy = "write it like 10.0.4.0/24, or one address"
            raise UsageError(f"{text!r} is no network", where="--network", remedy=remedy) from error
    return found


def public(wanted: Iterable[Network]) -> list[Network]:
    """Those that belong to others on the internet, so that a person has to confirm them."""
    return [network for network in wanted if not network.is_private]


def targets(here: Sequence[Own], wanted: Sequence[Network], mine: Iterable[Address]) -> list[str]:
    """IPv4 addresses to try, and IPv6 ones where a small network of them was named; without our own."""
    networks: list[Network] = list(wanted) or [
        it.network if it.network.num_addresses <= 1024 else ipaddress.ip_network(f"{it.address}/{USUAL}", strict=False)
        for it in here
        if it.address.version == 4
    ]
    too_wide = [network for network in wanted if network.version == 4 and network.num_addresses > WIDEST]
    if too_wide:
        remedy = f"name networks of at most {WIDEST} addresses, such as {too_wide[0].network_address}/22"
        raise UsageError(f"{too_wide[0]} has {too_wide[0].num_addresses} addresses", where="--network", remedy=remedy)
    ours = set(mine)
    found = dict.fromkeys(
        host for network in networks if network.num_addresses <= WIDEST for host in _hosts(network) if host not in ours
    )
    return [str(host) for host in found][:WIDEST]


def within(address: str, wanted: Sequence[Network], here: Sequence[Own]) -> bool:
    """Whether an address that was heard of is one that was looked for. Public ones only where they were named."""
    text, _, scope = address.partition("%")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    if found.is_loopback or found.is_multicast or found.is_unspecified or any(found == it.address for it in here):
        return False
    if found.is_link_local:
        return any(it.interface == scope or str(it.index) == scope for it in here)
    return any(found in network for network in wanted or [it.network for it in here])


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and (one[0] in other or other[0] in one)


def _hosts(network: Network) -> Iterator[Address]:
    return iter(network.hosts())
