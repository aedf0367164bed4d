"""Remove what no host needs any more, after a rollout that went well: old releases, and models placed elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.provision import ssh


def prune(argv: Mapping[str, tuple[str, ...]], keep: int, *, sudo_password: str | None) -> dict[str, str]:
    """Keep `keep` releases on each host, and only the models that are placed there of those that a rollout brought.

    Returns what went wrong, by host; none of it harms a cluster that runs.
    """
    releases = shlex.join((str(layout.LIBEXEC / "switch"), "--prune", str(keep)))
    models = f"{layout.CURRENT}/bin/launch python3 -m cluster_ai.host models --prune etc/host.json"
    script = f"set -e; {releases}; [ ! -e {layout.CURRENT}/units/{layout.ENGINE} ] || {models}"
    wrong = {}
    for host, reply in ssh.run(ssh.calls(argv, script), sudo_password=sudo_password).items():
        if isinstance(reply, HostError):
            wrong[host] = reply.what
        elif reply.returncode:
            said = (reply.text + reply.stderr).strip().splitlines()
            wrong[host] = said[-1] if said else f"exit code {reply.returncode}"
    return wrong
