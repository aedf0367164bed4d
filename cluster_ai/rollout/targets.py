"""What pyinfra's own command deploys: `python -m cluster_ai.rollout.targets CONFIG`, run in a process of its own.

Prints JSON, with private keys in it where a host's certificate is due: it is for a pipe. Hosts that can't be asked are
told on standard error, and left out.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cluster_ai.config import load
from cluster_ai.deploys import data
from cluster_ai.errors import ClusterAIError
from cluster_ai.placement.place import place
from cluster_ai.rollout import survey
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.target import host_target


def targets(path: Path, sudo_password: str | None) -> tuple[tuple[data.HostTarget, ...], int]:
    """What each host that answers is to become, and the seconds that its gate may take."""
    config = load(path)
    scope = Scope(config, sudo_password=sudo_password)
    probe = scope.probe()
    placement = place(config)
    found = survey.take(scope, placement, probe.results(), progress=lambda what, done, of: None)
    for error in found.plan.errors:
        print(error, file=sys.stderr)
    made = (host_target(scope, found, host, renew=True) for host in scope.hosts if host.name in found.releases)
    return tuple(made), int(config.rollout.gate_timeout)


def main() -> int:
    try:
        wanted, timeout = targets(Path(sys.argv[1]), os.environ.get("CLUSTER_AI_SUDO_PASSWORD"))
    except ClusterAIError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({"targets": data.dump(wanted), "timeout": timeout}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
