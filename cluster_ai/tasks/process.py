"""A task's own process: its memory and CPUs are bounded, it can be stopped, and it says how far it is.

Where the worker may make cgroups (cluster/cgroups.py), the task's `memory` and `cpu` bound it and all that it starts.
Elsewhere only `memory` does, as an rlimit of this process. Around either is the memory of the worker's service: where
that is used up, the kernel ends the task and not the worker.

It leads a session of its own, and what it has started ends with it. What it says goes to files, not pipes: whoever
else holds a pipe would keep the worker waiting, and what is in a file takes no memory of the worker's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import IO, Any

from cluster_ai.cluster.cgroups import Group
from cluster_ai.sizes import format_size
from cluster_ai.tasks import progress
from cluster_ai.tasks.progress import Progress

REFUSED = 2  # exit status: trying again can't help; the last line of its standard error says why
RESULT_LIMIT = 200 << 20  # bytes of JSON
CARDS = "CUDA_VISIBLE_DEVICES"  # which cards CUDA shows a process; empty: none
LAST = 4096  # bytes of its standard error that are looked at
ENDING = 5.0  # seconds after its end in which its progress is still heard


class FinalError(Exception):
    """Trying the task again can't help."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a task's process is given of its worker: a cgroup of its own, where there is one; cards, by their UUIDs."""

    group: Group | None = None
    cards: tuple[str, ...] = ()


def run(
    order: Mapping[str, Any],
    tell: Callable[[Progress], None],
    stoppable: Callable[[Callable[[], None]], AbstractContextManager[None]],
    more: Mapping[str, Any],
    place: Place,
) -> Any:
    """What child.py makes of the order, and more. stoppable: is given how to stop it, while it runs.

    Raises FinalError, and RuntimeError where another try may help.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _ended(order, tell, stoppable, more, place, out, err)
        if code:
            name = order["payload"].get("function", order["kind"])
            if place.group is not None and place.group.over():
                most = format_size(order["memory"])
                raise RuntimeError(f"{name}: killed, since it took more memory than its limit, {most} (`memory`)")
            err.seek(max(err.seek(0, os.SEEK_END) - LAST, 0))
            last = err.read().decode(errors="replace").strip().splitlines()[-1:] or [ended(code)]
            error = f"{name}: {last[0]}"
            raise FinalError(error) if code == REFUSED else RuntimeError(error)
        size = out.seek(0, os.SEEK_END)
        if size > RESULT_LIMIT:
            raise FinalError(f"the result has {size} bytes of JSON; at most {RESULT_LIMIT} are kept")
        out.seek(0)
        return json.load(out)


def _ended(
    order: Mapping[str, Any],
    tell: Callable[[Progress], None],
    stoppable: Callable[[Callable[[], None]], AbstractContextManager[None]],
    more: Mapping[str, Any],
    place: Place,
    out: IO[bytes],
    err: IO[bytes],
) -> int:
    """Its exit status. Raises FinalError."""
    reading, writing = os.pipe()
    name = f"progress:{order['id']}"
    listening = threading.Thread(target=progress.listen, args=(reading, tell), name=name, daemon=True)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "cluster_ai.tasks.child"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            start_new_session=True,
            pass_fds=(writing,),
            env={**os.environ, progress.PIPE: str(writing), CARDS: ",".join(place.cards)},
        )
        listening.start()
    except BaseException:  # no more processes or threads may be begun here
        os.close(reading)
        raise
    finally:
        os.close(writing)
    told: dict[str, Any] = {name: order[name] for name in ("kind", "payload", "cpu")}
    told["rlimit"] = 0 if place.group is not None else order["memory"]

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    with stoppable(end):
        try:
            if place.group is not None:
                place.group.add(child.pid)  # before it is told what to do
            child.communicate(json.dumps({**told, **more}).encode(), timeout=order["timeout"])
        except subprocess.TimeoutExpired:
            raise FinalError(f"stopped after {order['timeout']:.0f} s, its timeout") from None
        finally:
            end()
            child.wait()
            listening.join(ENDING)  # one that left its session could hold that pipe for ever
    return child.returncode


def ended(code: int) -> str:
    """How a process ended that said nothing itself."""
    if code == -signal.SIGKILL:
        return "killed, as when the worker's memory (resources.memory in cluster.yaml) is used up"
    return f"ended by signal {-code}" if code < 0 else f"exit status {code}"
