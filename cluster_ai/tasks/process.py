"""A task's own process: its memory is bounded, it can be stopped, and it says how far it is.

The bound is the task's own `memory`, as an rlimit of this process; and around all that it starts, the memory of the
worker's service, as systemd's cgroup has it. Where that is used up, the kernel ends the task and not the worker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from cluster_ai.tasks import progress
from cluster_ai.tasks.progress import Progress

REFUSED = 2  # exit status: trying again can't help; the last line of its standard error says why


class FinalError(Exception):
    """Trying the task again can't help."""


def run(
    order: Mapping[str, Any],
    tell: Callable[[Progress], None],
    stoppable: Callable[[Callable[[], None]], AbstractContextManager[None]],
    more: Mapping[str, Any],
) -> Any:
    """What child.py makes of the order, and more. stoppable: is given how to stop it, while it runs.

    Raises FinalError, and RuntimeError where another try may help.
    """
    reading, writing = os.pipe()
    listening = threading.Thread(target=progress.listen, args=(reading, tell), name=f"progress:{order['id']}")
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "cluster_ai.tasks.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(writing,),
            env={**os.environ, progress.PIPE: str(writing)},
        )
        listening.start()
    finally:
        os.close(writing)
    told: dict[str, Any] = {name: order[name] for name in ("kind", "payload", "memory", "cpu")}
    with stoppable(child.kill):
        try:
            out, err = child.communicate(json.dumps({**told, **more}).encode(), timeout=order["timeout"])
        except subprocess.TimeoutExpired:
            raise FinalError(f"stopped after {order['timeout']:.0f} s, its timeout") from None
        finally:
            child.kill()
            child.communicate()
            listening.join()
    if child.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [ended(child.returncode)]
        error = f"{order['payload'].get('function', order['kind'])}: {last[0]}"
        raise FinalError(error) if child.returncode == REFUSED else RuntimeError(error)
    return json.loads(out)


def ended(code: int) -> str:
    """How a process ended that said nothing itself."""
    if code == -signal.SIGKILL:
        return "killed, as when the worker's memory (resources.memory in cluster.yaml) is used up"
    return f"ended by signal {-code}" if code < 0 else f"exit status {code}"
