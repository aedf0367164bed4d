"""Which lab this is (from the environment, read once), and the small things that every part of it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DIR = Path(os.environ.get("LAB_DIR") or Path(tempfile.gettempdir()) / "cluster-ai-lab").resolve()
BASES = Path(os.environ.get("LAB_BASE") or DIR).resolve()
NET = os.environ.get("LAB_NET", "10.77.0")
TAG = os.environ.get("LAB_TAG", "lab")
DISTRO = os.environ.get("LAB_DISTRO", "bookworm")
EXTRA_PACKAGES = sorted(p for p in os.environ.get("LAB_PACKAGES", "").split(",") if p)
NSPAWN_OPTIONS = os.environ.get("LAB_NSPAWN", "").split()

BRIDGE = f"br-{TAG}"
TABLE = f"lab_{TAG}"
HOSTS = DIR / "hosts"
CGROUPS = Path("/sys/fs/cgroup")


def run(*command: str | Path, check: bool = True, stdin: str | None = None) -> bool:
    """Run a command quietly; whether it went well. With `check`, end the lab's run with its output when it didn't."""
    done = subprocess.run(
        [str(c) for c in command], input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if check and done.returncode:
        sys.exit(f"lab: {' '.join(map(str, command))} -> {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode == 0


def wait(condition: Callable[[], T], seconds: float, step: float = 0.05) -> T:
    """Wait until the condition holds or time is up; its last answer."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(step)
    return answer


def names() -> list[str]:
    return sorted((p.name for p in HOSTS.glob("h*")), key=lambda name: int(name[1:]))


def pick(argument: str) -> list[str]:
    """The hosts of "h1,h3" or "all"."""
    chosen = names() if argument == "all" else argument.split(",")
    if unknown := [host for host in chosen if not (HOSTS / host).is_dir()]:
        sys.exit(f"lab: no such host: {', '.join(unknown)}")
    return chosen


def address(host: str) -> str:
    return f"{NET}.{10 + int(host[1:])}"
