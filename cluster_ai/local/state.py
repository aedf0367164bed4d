"""Whether a cluster lives under a root, and which processes are its.

The supervisor holds a lock while anything of its cluster lives: the lock answers "is it up?" without trusting
a number on disk. Every process of a cluster carries the root in its environment, so that orphans can be found.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cluster_ai.local.model import MARKER, Paths, Plan

_STEP = 0.02


@dataclass(frozen=True, slots=True)
class State:
    """.cluster-ai/local.json. `phase` is "starting" until the cluster has answered its first prompt."""

    pid: int
    starttime: int  # of that process, in clock ticks since boot: a reused pid has another
    phase: Literal["starting", "up"]
    gateway: str
    dashboard: str | None
    prometheus: str | None
    open_webui: str | None
    dask: str
    dask_dashboard: str
    token: None
    engine: str
    workers: tuple[str, ...]
    lacks: tuple[str, ...]

    @property
    def alive(self) -> bool:
        return starttime(self.pid) == self.starttime


def of(plan: Plan, pid: int, phase: Literal["starting", "up"]) -> State:
    a = plan.addresses
    return State(
        pid=pid,
        starttime=starttime(pid) or 0,
        phase=phase,
        gateway=a.gateway,
        dashboard=a.dashboard,
        prometheus=a.prometheus,
        open_webui=a.open_webui,
        dask=a.dask,
        dask_dashboard=a.dask_dashboard,
        token=None,
        engine=plan.engine,
        workers=plan.workers,
        lacks=plan.lacks,
    )


def read(paths: Paths) -> State | None:
    """The state of the supervisor that lives; None where none does."""
    try:
        value: dict[str, Any] = json.loads(paths.state.read_text())
        state = State(**{**value, "workers": tuple(value["workers"]), "lacks": tuple(value["lacks"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if state.alive else None


def write(paths: Paths, state: State) -> None:
    beside = paths.state.with_suffix(".json.new")
    beside.write_text(json.dumps(asdict(state), indent=2) + "\n")
    beside.replace(paths.state)


def starttime(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else int(fields[19])


def try_lock(paths: Paths) -> int | None:
    """A file descriptor that holds the lock until it and its copies are closed; None: a cluster has it."""
    paths.root.mkdir(parents=True, exist_ok=True)
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def processes(root: Path) -> tuple[int, ...]:
    """All processes of this user that belong to the root's cluster, this one left out."""
    wanted = f"{MARKER}={root}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0") and starttime(int(entry.name)) is not None:
                    found.append(int(entry.name))
    return tuple(found)


def kill_all(root: Path, spare: tuple[int, ...] = (), deadline: float = 10.0) -> None:
    """Until none is left: one may fork while another is killed."""
    end = time.monotonic() + deadline
    while (left := set(processes(root)) - set(spare)) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_STEP)
