"""`python3 -m cluster_ai.tasks.child`: runs one function of an installed plugin, or data_processing; JSON in, JSON out.

A plugin offers functions by entry points of the group "cluster_ai.tasks"; each takes the payload's `arguments` as
keywords and returns what JSON can say, and may tell by progress.report how far it is. Exit status 2: there is no such
function, or the data can't be processed so.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from cluster_ai.tasks.process import REFUSED
from cluster_ai.tasks.progress import PIPE, report

GROUP = "cluster_ai.tasks"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # in a session of its own, it would outlive its worker
    told = json.load(sys.stdin)
    with suppress(OSError):  # of all in the worker's cgroup, this goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    if told["rlimit"]:
        resource.setrlimit(resource.RLIMIT_AS, (told["rlimit"], told["rlimit"]))
    os.set_inheritable(int(os.environ[PIPE]), False)  # what the function starts needn't end before the worker goes on
    out = os.dup(1)
    os.dup2(2, 1)  # what the function prints is no result
    try:
        result = _process(told) if told["kind"] == "data_processing" else _call(told["payload"])
    except RefusedError as e:
        sys.stderr.write(f"{e}\n")
        return REFUSED
    with os.fdopen(out, "w") as file:
        json.dump(result, file)
    return 0


class RefusedError(Exception):
    pass


def _process(told: dict[str, Any]) -> dict[str, Any]:
    from cluster_ai.tasks.data import frames
    from cluster_ai.tasks.data.steps import plan_of

    try:
        plan = plan_of(told["payload"])
        return frames.run(plan, Path(told["data"]), Path(told["out"]), told["cpu"], report)
    except frames.DataError as e:
        raise RefusedError(str(e)) from e


def _call(payload: dict[str, Any]) -> Any:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if payload["function"] not in found:
        there = ", ".join(sorted(found)) or "none"
        raise RefusedError(f"no installed plugin has this function; there are: {there}")
    return found[payload["function"]].load()(**payload.get("arguments", {}))


if __name__ == "__main__":
    sys.exit(main())
