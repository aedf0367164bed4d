"""A cgroup for each task's own process, in the subtree that systemd delegates to the worker's service (Delegate=).

By the rules of cgroups(7) and of systemd's "Control Group APIs and Delegation": a group that has processes gives no
controllers to groups below it, so the service's own processes move to a leaf first; and in the service's group nothing
is written but what these two things need. Only version 2: version 1 can't be delegated to a user safely.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_log = logging.getLogger(__name__)
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LEAF = "worker"  # where the service's own processes are
PREFIX = "run-"  # of tasks' groups, before the worker process that made them; no name of a kernel's file begins so
CONTROLLERS = frozenset(("cpu", "memory"))
PERIOD = 100_000  # microseconds, of cpu.max
TRIES = 100  # to empty a group in which processes are still being started
ENDING = 5.0  # seconds for killed processes to be gone


class NoDelegationError(Exception):
    """Tasks get no cgroups of their own here; the text says why."""


class Group:
    """Of one task. Every call raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """From now on the process, and all that it starts, is in here."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def kill(self) -> None:
        """All that is in it, whatever session it made itself."""
        (self._path / "cgroup.kill").write_text("1")

    def over(self) -> bool:
        """Whether something was killed because this group's own memory was used up, rather than one's above."""
        events = _table(self._path / "memory.events")
        return bool(events.get("oom") and events.get("oom_kill"))

    def remove(self) -> None:
        """With all that is still in it."""
        self.kill()
        deadline = time.monotonic() + ENDING
        while _table(self._path / "cgroup.events").get("populated") and time.monotonic() < deadline:
            time.sleep(0.01)
        self._path.rmdir()


class Groups:
    """Of a worker's tasks."""

    def __init__(self, root: Path) -> None:
        self._root, self._numbers = root, itertools.count()

    @contextmanager
    def made(self, name: str, cpu: int, memory: int) -> Iterator[Group]:
        """For a task with so many CPUs and bytes of memory; 0: no bound of its own. Raises OSError."""
        path = self._root / f"{PREFIX}{os.getpid()}-{name}.{next(self._numbers)}"
        path.mkdir()
        try:
            (path / "cpu.max").write_text(f"{cpu * PERIOD} {PERIOD}")
            if memory:
                (path / "memory.max").write_text(str(memory))
                with suppress(FileNotFoundError):  # a kernel without swap
                    (path / "memory.swap.max").write_text("0")
            (path / "memory.oom.group").write_text("1")  # half a task is of no use
            yield Group(path)
        finally:
            _removed(path)

    def tidy(self) -> None:
        """Remove what worker processes left that were killed."""
        for path in self._root.glob(f"{PREFIX}*"):
            if not Path("/proc", path.name.removeprefix(PREFIX).partition("-")[0]).exists():
                _removed(path)


def take(*, delegated: bool, cgroups: Path = CGROUPS, own: Path = OWN) -> Groups:
    """Makes the service's group ready, from a process in it. delegated: its unit says so. Raises NoDelegationError."""
    if not delegated:
        raise NoDelegationError("the worker doesn't run as a service that systemd delegates a cgroup to")
    if not (cgroups / "cgroup.controllers").is_file():
        raise NoDelegationError("the host has cgroups of version 1")
    try:
        here = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        group = cgroups / here.lstrip("/")
        root = group.parent if group.name == LEAF else group
        if lacking := CONTROLLERS - set((root / "cgroup.controllers").read_text().split()):
            raise NoDelegationError(
                f"the cgroup of the worker's service has no controllers {', '.join(sorted(lacking))}"
            )
        (root / LEAF).mkdir(exist_ok=True)
        _emptied(root)
    except OSError as e:
        raise NoDelegationError(f"the cgroup of the worker's service can't be divided: {e}") from e
    groups = Groups(root)
    groups.tidy()
    return groups


def _emptied(root: Path) -> None:
    """All processes in the leaf, and controllers for the groups beside it. Raises OSError."""
    for left in reversed(range(TRIES)):
        for pid in (root / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (root / LEAF / "cgroup.procs").write_text(pid)
        try:
            (root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
        except OSError as e:
            if e.errno != errno.EBUSY or not left:  # busy: another process was started meanwhile
                raise
        else:
            return


def _removed(path: Path) -> None:
    try:
        Group(path).remove()
    except OSError as e:
        _log.warning("the cgroup %s stays behind: %s", path.name, e)


def _table(path: Path) -> dict[str, int]:
    """Of a file with a name and a number on each line."""
    return {name: int(number) for name, number in map(str.split, path.read_text().splitlines())}
