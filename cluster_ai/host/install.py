"""How systemd and /etc have our units and credentials: links, what others laid over them, modes."""

from __future__ import annotations

import contextlib
import grp
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cluster_ai import layout
from cluster_ai.host.faults import Fault
from cluster_ai.host.units import UnitState

SYSTEM = Path("/etc/systemd/system")
# Where a drop-in may lie besides: `systemctl edit --runtime`, `systemctl set-property`. libexec/switch knows the same.
OVERLAID = (
    SYSTEM,
    Path("/etc/systemd/system.control"),
    Path("/run/systemd/system"),
    Path("/run/systemd/system.control"),
)


def states(found: Mapping[str, UnitState]) -> Iterator[Fault]:
    for unit, state in found.items():
        if state.active != "active":
            yield Fault("units", unit, f"is {state.active} ({state.sub})", "release")


def links(release: Path, units: Iterable[str], system: Path = SYSTEM) -> Iterator[Fault]:
    """Each unit is a link into `current`, and started by what its [Install] says."""
    names = set(units)
    for unit in sorted(names):
        link, target = system / unit, str(layout.CURRENT / "units" / unit)
        if not link.is_symlink() or str(link.readlink()) != target:
            yield Fault("units", unit, f"{link} doesn't lead to {target}", "release")
        for by in wanted_by(release / "units" / unit):
            if not is_enabled(system / f"{by}.wants", unit):
                yield Fault(
                    "units", unit, f"isn't started with {by}: its link in {system}/{by}.wants is gone", "release"
                )
    for link in sorted(system.glob("cluster-ai*")):
        if link.is_symlink() and str(link.readlink()).startswith(f"{layout.CURRENT}/") and link.name not in names:
            yield Fault("units", link.name, "is a unit that the release doesn't have", "release")


def is_enabled(wants: Path, unit: str) -> bool:
    """Of a template, an instance is."""
    stem, at, end = unit.partition("@.")
    return any(wants.glob(f"{stem}@*.{end}")) if at else (wants / unit).is_symlink()


def wanted_by(unit: Path) -> list[str]:
    try:
        return re.findall(r"^WantedBy=(\S+)$", unit.read_text(), re.MULTILINE)
    except OSError:
        return []  # a missing file is told as such


def overrides(places: Iterable[Path] = OVERLAID) -> Iterator[Fault]:
    """Drop-ins of our units: they change what a release runs, and no release has any."""
    for place in places:
        for path in sorted(place.glob("cluster-ai*.d/*.conf")):
            unit = path.parent.name.removesuffix(".d")
            yield Fault("overrides", str(path), f"changes what {unit} runs", "release")


def credentials(
    folder: Path = Path(layout.CREDENTIALS), tls: Path = Path(layout.TLS), group: str = layout.TLS_GROUP
) -> Iterator[Fault]:
    """Keys that others may read, or own."""
    yield from _modes(folder, 0o600, 0, "root's")
    with contextlib.suppress(KeyError):
        yield from _modes(tls, 0o640, grp.getgrnam(group).gr_gid, f"root's and of group {group}")


def _modes(folder: Path, wanted: int, gid: int, whose: str) -> Iterator[Fault]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = path.lstat()
        mode, owner = found.st_mode & 0o7777, (found.st_uid, found.st_gid)
        if path.is_file() and (mode, owner) != (wanted, (0, gid)):
            how = f"has mode {mode:04o} and owner {owner[0]}:{owner[1]}, not {wanted:04o} and {whose}"
            yield Fault("credentials", str(path), how, "release")
