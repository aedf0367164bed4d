"""Has this host drifted from its release? Every file, every unit's link, every unit's state."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.host import units
from cluster_ai.settings import HostSettings

SYSTEM = Path("/etc/systemd/system")
OURS = frozenset({"manifest.json", "units.txt"})  # of a release, but not listed in it


@dataclass(frozen=True, slots=True)
class Found:
    """What isn't as it should be. files: path -> changed, missing, extra, mode; units: unit -> what is wrong."""

    digest: str
    files: dict[str, str]
    units: dict[str, str]

    @property
    def drift(self) -> bool:
        return bool(self.files or self.units)

    def as_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "drift": self.drift, "files": self.files, "units": self.units}

    def lines(self) -> list[str]:
        return [f"{path}: {what}" for path, what in [*sorted(self.files.items()), *sorted(self.units.items())]]


def examine(told: HostSettings, release: Path, system: Path = SYSTEM) -> Found:
    """Compare the release that this agent runs from with its manifest, and systemd with its units."""
    manifest = json.loads((release / "manifest.json").read_text())
    return Found(release.name, files(release, manifest), unit_faults(told, manifest, system))


def files(release: Path, manifest: dict[str, Any]) -> dict[str, str]:
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
    return found


def unit_faults(told: HostSettings, manifest: dict[str, Any], system: Path) -> dict[str, str]:
    found = {}
    for unit, state in units.states(told.units).items():
        if state.active != "active":
            found[unit] = f"{state.active} ({state.sub})"
    for unit in manifest["units"]:
        link, target = system / unit, str(layout.CURRENT / "units" / unit)
        if not link.is_symlink() or str(link.readlink()) != target:
            found[unit] = f"{link} doesn't lead to {target}"
    for link in system.glob("cluster-ai*"):
        stale = link.is_symlink() and str(link.readlink()).startswith(f"{layout.CURRENT}/")
        if stale and link.name not in manifest["units"]:
            found[link.name] = "a unit that the release doesn't have"
    return found
