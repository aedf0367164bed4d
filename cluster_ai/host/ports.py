"""Who listens on the ports of our units: sockets from /proc/net/tcp, their processes from /proc, units from cgroups."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_ai import layout
from cluster_ai.host.faults import Fault
from cluster_ai.settings import Listener

PROC = Path("/proc")
_LISTENS = "0A"


@dataclass(frozen=True, slots=True)
class Owner:
    unit: str  # "" where the process belongs to none
    program: str
    pid: int


def faults(wanted: Iterable[Listener], active: Mapping[str, bool], proc: Path = PROC) -> list[Fault]:
    """active: unit -> whether it is, so that the ports of one that isn't aren't missed as well."""
    sockets = listening(proc)
    owners = owners_of({inode for inodes in sockets.values() for inode in inodes}, proc)
    there = {port: [it for inode in inodes for it in owners.get(inode, ())] for port, inodes in sockets.items()}
    return list(compare(wanted, active, there))


def compare(
    wanted: Iterable[Listener], active: Mapping[str, bool], there: Mapping[int, Iterable[Owner]]
) -> Iterator[Fault]:
    """there: port -> processes that listen on it; of a port without an entry nobody does."""
    for it in wanted:
        what = f"port {it.port}"
        if it.port not in there:
            if it.unit == layout.NODE_EXPORTER:
                yield Fault("ports", what, f"{it.unit} doesn't listen on it", "host layer")
            elif active.get(it.unit, False):
                yield Fault("ports", what, f"{it.unit} doesn't listen on it, though it runs", "hand")
            continue
        for owner in {(o.unit, o.program): o for o in there[it.port] if not belongs(o, it.unit)}.values():
            of = f" of {owner.unit}" if owner.unit else ""
            how = f"{owner.program} (process {owner.pid}{of}) listens on it; it is {it.unit}'s"
            yield Fault("ports", what, how, "hand")


def belongs(owner: Owner, unit: str) -> bool:
    """A socket unit's port is systemd's too, and its service's; an instance is as good as its template."""
    return stem(owner.unit) == stem(unit) or (unit.endswith(".socket") and owner.pid == 1)


def stem(unit: str) -> str:
    return re.split(r"[@.]", unit)[0]


def listening(proc: Path = PROC) -> dict[int, set[int]]:
    """Port -> inodes of the sockets that listen on it, at whichever address."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for name in ("tcp", "tcp6"):
        table = proc / "net" / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENS:
                found[int(words[1].rpartition(":")[2], 16)].add(int(words[9]))
    return dict(found)


def owners_of(inodes: set[int], proc: Path = PROC) -> dict[int, list[Owner]]:
    """Which processes hold these sockets. A process that ends while it is looked at holds none."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    found: defaultdict[int, list[Owner]] = defaultdict(list)
    for process in proc.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            held = {names[link] for fd in (process / "fd").iterdir() if (link := _link(fd)) in names}
            if held:
                program = (process / "comm").read_text().strip()
                owner = Owner(unit_of((process / "cgroup").read_text()), program, int(process.name))
                for inode in held:
                    found[inode].append(owner)
        except OSError:
            continue
    return dict(found)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def unit_of(cgroup: str) -> str:
    """The unit that a process belongs to, by /proc/PID/cgroup: the innermost that isn't a slice."""
    for line in cgroup.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "name=systemd" or (number == "0" and not controllers):
            for name in reversed(path.split("/")):
                if name.endswith((".service", ".scope", ".socket")):
                    return name
    return ""
