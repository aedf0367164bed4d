"""Which processes belong to a host. A pid is believed only with its start time, for pids are used again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab.context import HOSTS


def start_time(pid: int) -> str | None:
    """A process' start, in the kernel's ticks; None when it is gone (a zombie is)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def live(host: str, what: str = "pid") -> int | None:
    """The pid of a host's supervising loop ("pid") or of its delay relay ("netem")."""
    try:
        pid, started = (HOSTS / host / what).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def child(pid: int | None, wanted: Callable[[int], bool] = lambda _: True) -> int | None:
    if pid is None:
        return None
    try:
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return next((c for c in children if wanted(c)), None)
    except OSError:
        return None


def leader(host: str) -> int | None:
    """Process 1 of a host, as seen from here."""

    def is_init(pid: int) -> bool:
        ids = next(x.split() for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("NSpid"))
        return len(ids) > 2 and ids[-1] == "1"

    return child(child(live(host)), is_init)


def spawn(
    host: str, what: str, command: list[str], *, env: dict[str, str] | None = None, cgroups: tuple[Path, ...] = ()
) -> None:
    """Start a process that outlives this one; its pid and start are kept as HOSTS/<host>/<what>."""

    def join() -> None:
        for group in cgroups:
            (group / "cgroup.procs").write_text("0")

    with (HOSTS / host / f"{what}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=join if cgroups else None,
            env=env,
        )
    (HOSTS / host / what).write_text(f"{process.pid} {start_time(process.pid)}")


def enter(host: str, command: list[str]) -> int:
    """Run a command in all of a host's namespaces, so also while its network is cut; its exit code."""
    pid = leader(host)
    if pid is None:
        sys.exit(f"lab: {host} is down")
    inside = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command]
    return subprocess.run(
        ["nsenter", "-t", str(pid), *["-m", "-u", "-i", "-p", "-n", "-C", "--wdns=/"], *inside]
    ).returncode


def end(pid: int | None, signal: int) -> None:
    if pid is not None and start_time(pid):
        os.kill(pid, signal)
