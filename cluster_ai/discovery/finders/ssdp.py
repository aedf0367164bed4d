"""SSDP, the searching part of UPnP: management boards, network storage, and machines that were told to answer."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence

from async_upnp_client.const import AddressTupleVXType
from async_upnp_client.search import SsdpSearchListener

from cluster_ai.discovery.merging import Sighting
from cluster_ai.discovery.networks import Own
from cluster_ai.discovery.packets import clean, system_of

WAIT = 1  # MX: seconds within which devices answer
EVERY = 2.0  # seconds between searches; datagrams get lost


async def find(here: Sequence[Own], tell: Callable[[Sighting], None]) -> None:
    """Search until cancelled."""
    logging.getLogger("async_upnp_client").setLevel(logging.CRITICAL)  # it logs what strangers send as errors of ours

    def heard(headers: Mapping[str, object]) -> None:
        if found := sighting(headers):
            tell(found)

    listeners = []
    try:
        for it in here:
            if it.address.version == 6 and not it.address.is_link_local:
                continue
            source: AddressTupleVXType = (
                (str(it.address), 0) if it.address.version == 4 else (str(it.address), 0, 0, it.index)
            )
            listener = SsdpSearchListener(callback=heard, source=source, timeout=WAIT)
            with contextlib.suppress(OSError):  # this interface has no multicast
                await listener.async_start()
                listeners.append(listener)
        while listeners:
            for listener in listeners:
                listener.async_search()
            await asyncio.sleep(EVERY)
    finally:
        for listener in listeners:
            listener.async_stop()


def sighting(headers: Mapping[str, object]) -> Sighting | None:
    """Where an answer came from, and what its server calls itself. Its LOCATION is not believed, nor fetched."""
    address, software = str(headers.get("_host", "")), clean(headers.get("server"))
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return Sighting("ssdp", address, system=system_of(software) or software[:32])
