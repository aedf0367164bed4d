"""mDNS and DNS-SD: services that machines announce anyway (Avahi's SSH and workstation), and `_cluster-ai._tcp`."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cluster_ai.discovery.merging import Sighting
from cluster_ai.discovery.networks import Own
from cluster_ai.discovery.packets import clean

TYPES = ["_ssh._tcp.local.", "_workstation._tcp.local.", "_cluster-ai._tcp.local."]
ASKED = 1500  # milliseconds for a service's addresses
MOST = 512  # services that are asked for, in one search
AT_ONCE = 32


async def find(here: Sequence[Own], tell: Callable[[Sighting], None]) -> None:
    """Browse until cancelled."""
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # it logs what strangers send
    names = set[tuple[str, str]]()
    tasks = set[asyncio.Task[None]]()
    few = asyncio.Semaphore(AT_ONCE)
    # By interface number for IPv6: a link-local address alone says nothing.
    interfaces: list[str | int] = [str(it.address) for it in here if it.address.version == 4]
    interfaces += sorted({it.index for it in here if it.address.version == 6})
    kinds = {it.address.version for it in here}
    version = IPVersion.All if kinds == {4, 6} else IPVersion.V4Only if kinds == {4} else IPVersion.V6Only

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed or (service_type, name) in names or len(names) >= MOST:
            return
        names.add((service_type, name))
        task = asyncio.create_task(_asked(zeroconf, service_type, name, few, tell), name="mdns")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with AsyncZeroconf(interfaces=interfaces, ip_version=version) as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, TYPES, handlers=[changed])
        try:
            await asyncio.Event().wait()
        finally:
            await browser.async_cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _asked(
    zeroconf: Zeroconf, service_type: str, name: str, few: asyncio.Semaphore, tell: Callable[[Sighting], None]
) -> None:
    async with few:
        info = AsyncServiceInfo(service_type, name)
        if await info.async_request(zeroconf, ASKED):
            for sighting in sightings(name, service_type, info.server or "", info.parsed_scoped_addresses()):
                tell(sighting)


def sightings(name: str, service_type: str, server: str, addresses: Sequence[str]) -> list[Sighting]:
    """What an answer says. The host's name is that of its server record; else the service's own, cleaned."""
    shown = clean(server.removesuffix(".").removesuffix(".local"))
    shown = shown or clean(name.removesuffix("." + service_type))
    found = []
    for address in dict.fromkeys(addresses[:8]):
        try:
            ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            continue
        found.append(Sighting("mdns", address, name=shown))
    return found
