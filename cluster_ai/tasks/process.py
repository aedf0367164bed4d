"""A task's own process: its memory is bounded, it can be stopped, and it says how far it is."""

from __future__ import annotations

import json
import os
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
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        error = f"{order['payload'].get('function', order['kind'])}: {last[0]}"
        raise FinalError(error) if child.returncode == REFUSED else RuntimeError(error)
    return json.loads(out)
