"""All ways at once, for some seconds; then the SSH host key of each machine that has a server, asked for by OpenSSH."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster_ai.config.model import Ssh
from cluster_ai.discovery import networks
from cluster_ai.discovery.damper import Damper
from cluster_ai.discovery.finders import beacon, scan
from cluster_ai.discovery.finders.beacon import Secret
from cluster_ai.discovery.merging import Machine, Sighting, Way, merge
from cluster_ai.discovery.networks import Network, Own
from cluster_ai.discovery.packets import neighbours, system_of
from cluster_ai.inventory.known_hosts import HostKey, offered

MOST = 4096  # sightings that are kept
PORT = 22


@dataclass
class Search:
    """What is seen while it runs is in `seen`; on_seen is told of each new or changed sighting."""

    ssh: Ssh
    here: Sequence[Own]
    wanted: Sequence[Network]
    targets: Sequence[str]
    secret: Secret
    on_seen: Callable[[Sighting], None] = lambda _: None
    seen: dict[tuple[Way, str], Sighting] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damper: Damper = field(default_factory=Damper)

    @property
    def port(self) -> int:
        return self.ssh.port or PORT

    async def run(self, seconds: float) -> None:
        """Look in all ways; what can't be used here is noted, and the others go on."""
        ways: dict[str, Coroutine[None, None, None]] = {}
        if self.here:  # else the networks are others, which only a scan reaches
            ways = {
                "the beacon": beacon.find(self.here, self.secret, self._tell, self.damper),
                "mDNS": self._later("mdns"),
                "SSDP": self._later("ssdp"),
                "IPv6 neighbours": scan.neighbours(self.here, self.port, self._tell),
            }
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unreadable)
        listening = [self._task(what, work) for what, work in ways.items()]
        scanning = self._task("the scan", scan.find(self.targets, self.port, self._tell))
        try:
            await asyncio.sleep(seconds)
            await scanning
        finally:
            for task in (*listening, scanning):
                task.cancel()
            await asyncio.gather(*listening, scanning, return_exceptions=True)
            loop.set_exception_handler(None)
        await self._greet()
        if self.damper.ignored:
            self.notes.append(
                f"{self.damper.ignored} datagrams were ignored: too many, unreadable, or of no token of ours"
            )

    def _unreadable(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a stranger sent made the reader of a finder's package stumble: it is worth no traceback."""
        if isinstance(context.get("exception"), ValueError | LookupError):
            self.damper.ignored += 1
        else:
            loop.default_exception_handler(context)

    async def _later(self, finder: str) -> None:
        """One whose packages take long to import: the others look meanwhile."""
        module = await asyncio.to_thread(importlib.import_module, f"cluster_ai.discovery.finders.{finder}")
        await module.find(self.here, self._tell)

    def _task(self, what: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except OSError as error:
                self.notes.append(f"{what} can't be used here: {error.strerror or error}")

        return asyncio.create_task(guarded(), name=what)

    def _tell(self, sighting: Sighting) -> None:
        known = self.seen.get((sighting.way, sighting.address))
        if known == sighting or not networks.within(sighting.address, self.wanted, self.here):
            return
        if known is None and len(self.seen) >= MOST:
            self.damper.ignored += 1
            return
        self.seen[sighting.way, sighting.address] = sighting
        self.on_seen(sighting)

    async def _greet(self) -> None:
        """Read the banners of those that were found otherwise."""
        known = {address for (_, address), sighting in self.seen.items() if sighting.software}
        rest = list(dict.fromkeys(address for _, address in self.seen if address not in known))
        answers = await asyncio.gather(*(scan.greeting(address, self.port) for address in rest[: scan.AT_ONCE]))
        for address, software in zip(rest, answers, strict=False):
            for key, sighting in self.seen.items():
                if key[1] == address and software:
                    self.seen[key] = replace(sighting, software=software, system=sighting.system or system_of(software))

    def machines(self, keys: dict[str, HostKey] | None = None) -> list[Machine]:
        return merge(self.seen.values(), keys, known_macs())

    def identified(self) -> list[Machine]:
        """The machines, told apart by the keys that their SSH servers prove to have. Asks each of them."""
        addresses = list(dict.fromkeys(it.address for it in self.seen.values() if it.software))
        answers = offered(self.ssh, addresses)
        return self.machines({address: key for address, key in answers.items() if isinstance(key, HostKey)})


def known_macs() -> dict[str, str]:
    """This machine's neighbour table; empty where there is no `ip`."""
    program = shutil.which("ip") or "/usr/sbin/ip"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run((program, "-j", "neigh", "show"), capture_output=True, text=True, timeout=5, check=False)
        return neighbours(asked.stdout)
    return {}
