"""Remove old releases from hosts, after a rollout that went well."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.provision import ssh


def prune(argv: Mapping[str, tuple[str, ...]], keep: int, *, sudo_password: str | None) -> dict[str, str]:
    """Keep `keep` releases on each host. Returns what went wrong, by host; none of it harms a cluster that runs."""
    script = shlex.join((str(layout.LIBEXEC / "switch"), "--prune", str(keep)))
    wrong = {}
    for host, reply in ssh.run(ssh.calls(argv, script), sudo_password=sudo_password).items():
        if isinstance(reply, HostError):
            wrong[host] = reply.what
        elif reply.returncode:
            said = (reply.text + reply.stderr).strip().splitlines()
            wrong[host] = said[-1] if said else f"exit code {reply.returncode}"
    return wrong
