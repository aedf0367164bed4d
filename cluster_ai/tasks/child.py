"""`python3 -m cluster_ai.tasks.child`: runs one function of an installed plugin; JSON in, JSON out.

A plugin offers functions by entry points of the group "cluster_ai.tasks"; each takes the payload's `arguments` as
keywords and returns what JSON can say, and may tell by progress.report how far it is. Exit status 2: there is no such
function.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib.metadata import entry_points

from cluster_ai.tasks.process import REFUSED
from cluster_ai.tasks.progress import PIPE

GROUP = "cluster_ai.tasks"


def main() -> int:
    told = json.load(sys.stdin)
    if told["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (told["memory"], told["memory"]))
    os.set_inheritable(int(os.environ[PIPE]), False)  # what the function starts needn't end before the worker goes on
    payload = told["payload"]
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if payload["function"] not in found:
        there = ", ".join(sorted(found)) or "none"
        sys.stderr.write(f"no installed plugin has this function; there are: {there}\n")
        return REFUSED
    out = os.dup(1)
    os.dup2(2, 1)  # what the function prints is no result
    result = found[payload["function"]].load()(**payload.get("arguments", {}))
    with os.fdopen(out, "w") as file:
        json.dump(result, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
