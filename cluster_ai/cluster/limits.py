"""How many CPUs and how much memory this process may have: of the host, and of every cgroup that it is in.

Read from the files that cgroups(7) describes: version 2 (memory.max, cpu.max) and version 1 (memory.limit_in_bytes,
cpu.cfs_quota_us), at the process's own group and those above, since the tightest holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Limits:
    cpus: float
    memory: int  # bytes


def detect(cgroups: Path = CGROUPS, own: Path = OWN) -> Limits:
    cpus, memory = float(len(os.sched_getaffinity(0))), int(psutil.virtual_memory().total)
    with suppress(OSError):  # a system without cgroups
        for group in _groups(cgroups, own.read_text()):
            cpus = min(cpus, *_cpus(group))
            memory = min(memory, *_memory(group))
    return Limits(cpus, memory)


def _groups(cgroups: Path, own: str) -> Iterator[Path]:
    """Folders of the process's groups, from the innermost outwards. In a namespace of its own some aren't there."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        names = [controllers, *controllers.split(",")] if controllers else ["", "unified"]
        for root in {cgroups / name for name in names if not name.startswith("name=")}:
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root) and folder.is_dir():
                    yield folder


def _cpus(group: Path) -> Iterator[float]:
    yield float("inf")
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)  # "max" is no number
    with suppress(OSError, ValueError):
        share = int((group / "cpu.cfs_quota_us").read_text())
        if share > 0:
            yield share / int((group / "cpu.cfs_period_us").read_text())


def _memory(group: Path) -> Iterator[int]:
    yield 1 << 62
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            yield int((group / name).read_text())
