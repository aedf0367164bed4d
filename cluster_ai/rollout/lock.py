"""One run at a time may change a cluster from here. The kernel frees the lock with its holder, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from cluster_ai.errors import LockedError


@contextlib.contextmanager
def hold(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock. Raises LockedError, with the holder's name, where another run has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                f"another run holds the lock: {_holder(file.read())}",
                where=str(path),
                remedy="wait for it to end, or stop it",
            ) from None
        file.truncate(0)
        who = {
            "user": user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(time.time()),
            "doing": doing,
        }
        file.write(json.dumps(who) + "\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def free(path: Path) -> bool:
    """Whether nobody holds the lock."""
    try:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _holder(text: str) -> str:
    try:
        who = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["since"]))
        return f"`{who['doing']}` of {who['user']}@{who['host']} (process {who['pid']}), since {since}"
    except (ValueError, KeyError, TypeError):
        return "of unknown holder"
