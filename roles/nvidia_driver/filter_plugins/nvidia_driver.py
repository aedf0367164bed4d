"""Which NVIDIA cards `lspci -nn` lists, and what is to be done for them: pure, so that it can be tried over recordings.

PCI device numbers rise with the generations, and are right even where a host's pci.ids is too old to name a card.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

_CARD = re.compile(
    r"^(?P<slot>\S+) (?:VGA compatible controller|3D controller) \[03(?:00|02)\]: "
    r"(?P<name>.*?) \[10de:(?P<id>[0-9a-f]{4})\]",
    re.MULTILINE,
)
_MAXWELL = 0x1340  # the oldest generation that today's branches, and Ollama, still drive
_BLACKWELL = 0x2900  # from here on only the open kernel modules of branch 570 and later


@dataclass(frozen=True)
class Card:
    slot: str
    name: str
    device: int

    @property
    def too_old(self) -> bool:
        return self.device < _MAXWELL

    @property
    def open_only(self) -> bool:
        return self.device >= _BLACKWELL


@dataclass(frozen=True)
class Plan:
    """action: none, install, or reboot (what is on disk is not what runs). message: why cards are left alone."""

    action: Literal["none", "install", "reboot"] = "none"
    packages: tuple[str, ...] = ()  # of the driver, to be held
    headers: tuple[str, ...] = ()  # what its kernel module is built with
    message: str = ""


def cards(lspci: str) -> tuple[Card, ...]:
    return tuple(Card(m["slot"], m["name"], int(m["id"], 16)) for m in _CARD.finditer(lspci))


def plan(seen: dict[str, Any], distribution: str, ubuntu_branch: str) -> Plan:
    """seen: what files/look.py says of a host."""
    found = cards(seen["lspci"])
    usable = [card for card in found if not card.too_old]
    if not usable:
        old = ", ".join(card.name for card in found)
        return Plan(message=f"{old}: too old for a driver of today; this host works by its CPU" if old else "")
    open_only = [card for card in usable if card.open_only]
    if open_only and distribution == "Debian" and not seen["works"]:
        return Plan(
            message=f"{open_only[0].name}: newer than Debian's driver -> install NVIDIA's own (570 or later, open "
            "kernel modules) by hand: one that works is left as it is"
        )
    packages = _packages(distribution, ubuntu_branch, bool(open_only))
    headers = _headers(distribution, seen["kernel"])
    if seen["works"]:
        return Plan(packages=packages, headers=headers)
    stale = seen["on_disk"] is not None and (seen["nouveau"] or seen["loaded"] != seen["on_disk"])
    return Plan("reboot" if stale else "install", packages, headers)


def _packages(distribution: str, ubuntu_branch: str, open_modules: bool) -> tuple[str, ...]:
    """What computing needs; no X server."""
    if distribution == "Ubuntu":
        flavour = f"{ubuntu_branch}-server"
        return (f"nvidia-headless-{flavour}{'-open' if open_modules else ''}", f"nvidia-utils-{flavour}")
    return ("nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "nvidia-persistenced")


def _headers(distribution: str, kernel: str) -> tuple[str, ...]:
    """For the kernel that runs, and for those that come by later upgrades."""
    flavour = kernel.rpartition("-")[2]
    later = {"Debian": {"amd64", "arm64"}, "Ubuntu": {"generic", "aws", "azure", "gcp", "oracle", "lowlatency"}}
    return (
        f"linux-headers-{kernel}",
        *([f"linux-headers-{flavour}"] if flavour in later.get(distribution, set()) else []),
    )


class FilterModule:
    """Ansible's way to find filters."""

    def filters(self) -> dict[str, Any]:
        return {
            "nvidia_driver_cards": lambda lspci: [asdict(card) for card in cards(lspci)],
            "nvidia_driver_plan": lambda seen, distribution, branch: _plain(plan(seen, distribution, branch)),
        }


def _plain(made: Plan) -> dict[str, Any]:
    return {
        "action": made.action,
        "packages": list(made.packages),
        "headers": list(made.headers),
        "message": made.message,
    }
