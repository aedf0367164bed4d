"""Has this host drifted from its release? Every file, unit, port and package; and the notes that it leaves of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.host import install, packages, ports, units
from cluster_ai.host.faults import KINDS, Fault
from cluster_ai.settings import HostSettings

OURS = frozenset({"manifest.json", "units.txt"})  # of a release, but not listed in it
SWITCH = 600.0  # seconds to wait for the end of a switch
AGAIN = 10.0  # seconds after which a unit or a port that isn't right is looked at once more: it may be starting


@dataclass(frozen=True, slots=True)
class Found:
    """What isn't as it should be."""

    digest: str
    faults: tuple[Fault, ...]
    at: float  # seconds since 1970

    def of(self, kind: str) -> list[Fault]:
        return [fault for fault in self.faults if fault.kind == kind]

    def as_dict(self) -> dict[str, Any]:
        told = [{"kind": f.kind, "what": f.what, "how": f.how, "repair": f.repair} for f in self.faults]
        return {"digest": self.digest, "at": self.at, "drift": bool(self.faults), "faults": told}

    def lines(self) -> list[str]:
        """A heading for each kind of which there is something."""
        return [line for kind in KINDS if self.of(kind) for line in (f"{kind}:", *(f"  {it}" for it in self.of(kind)))]


def undisturbed(told: HostSettings, release: Path, limit: float) -> Found | None:
    """None where a switch is under way for longer than `limit` seconds, or came meanwhile: units that it has stopped
    for a moment would be noted, and stay so after its end."""
    if not settled(release, limit):
        return None
    found = examine(told, release)
    return found if settled(release, 0) else None


def examine(told: HostSettings, release: Path, *, again: float = AGAIN) -> Found:
    """Compare the release that this agent runs from with its manifest, and this host with both."""
    manifest = json.loads((release / "manifest.json").read_text())
    faults = [*files(release, manifest), *install.links(release, manifest["units"]), *install.overrides()]
    faults += [*install.credentials(), *packages.faults()]
    moving = running(told)
    if moving:
        time.sleep(again)
        moving = running(told)
    order = sorted([*faults, *moving], key=lambda it: (KINDS.index(it.kind), it.what))
    return Found(release.name, tuple(order), time.time())


def running(told: HostSettings) -> list[Fault]:
    """What may be different a moment later: units and ports."""
    found = units.states(told.units)
    active = {name: state.active == "active" for name, state in found.items()}
    return [*install.states(found), *ports.faults(told.listeners, active)]


def files(release: Path, manifest: dict[str, Any]) -> Iterator[Fault]:
    wanted: dict[str, dict[str, str]] = manifest["files"]
    there = {
        os.path.relpath(Path(folder, name), release)
        for folder, folders, names in os.walk(release)
        for name in [*names, *(f for f in folders if Path(folder, f).is_symlink())]
    }
    found = dict.fromkeys(wanted.keys() - there, "missing") | dict.fromkeys(there - wanted.keys() - OURS, "extra")
    if hashlib.sha256((release / "manifest.json").read_bytes()).hexdigest() != release.name:
        found["manifest.json"] = "changed"
    lines = "".join(f"{unit} {inputs}\n" for unit, inputs in sorted(manifest["units"].items()))
    if not (release / "units.txt").is_file() or (release / "units.txt").read_text() != lines:
        found["units.txt"] = "changed"

    def compare(path: str) -> tuple[str, str | None]:
        file, entry = release / path, wanted[path]
        if file.is_symlink():
            return path, "changed"
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != entry["sha256"]:
                return path, "changed"
        return path, None if file.stat().st_mode & 0o7777 == int(entry["mode"], 8) else "mode"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        compared = pool.map(compare, sorted(there & wanted.keys()), chunksize=64)
        found |= {path: what for path, what in compared if what}
    return (Fault("files", path, what, "release") for path, what in sorted(found.items()))


def settled(release: Path, limit: float, *, step: float = 5.0) -> bool:
    """Whether this release is the current one and no switch is under way, within `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        switching = units.states([layout.SWITCHING])[layout.SWITCHING].active in ("active", "activating")
        if not switching:
            return Path(layout.CURRENT).resolve() == release
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
