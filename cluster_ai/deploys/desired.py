"""For pyinfra's own command: what every host is to become, found out once, in another process.

Building releases needs what must not be imported into pyinfra's process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gevent import subprocess
from pyinfra.api.exceptions import PyinfraError

from cluster_ai.deploys import data
from cluster_ai.deploys.data import HostTarget


@cache
def desired(config: Path) -> tuple[Mapping[str, HostTarget], int]:
    """(targets by the host's name, seconds that a gate may take). $CLUSTER_AI_CONFIG goes before the given file."""
    root = Path(__file__).resolve().parents[2]
    python = root / ".venv" / "bin" / "python"
    path = os.environ.get("CLUSTER_AI_CONFIG") or str(config)
    command = [str(python if python.exists() else sys.executable), "-m", "cluster_ai.rollout.targets", path]
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": search})
    if done.returncode:
        raise PyinfraError(f"the releases of {path} can't be built; see above")
    found = json.loads(done.stdout)
    return {target.name: target for target in data.load(found["targets"])}, found["timeout"]
