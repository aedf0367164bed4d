"""pyinfra deploys: `push` brings releases to hosts without touching what runs there, `switch` makes them current.

Both take what every host is to become, by name, and do what concerns the host that pyinfra is at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy

from cluster_ai.deploys import exchange, operations
from cluster_ai.deploys.data import HostTarget


@deploy("Push")  # type: ignore[untyped-decorator]
def push(targets: Mapping[str, HostTarget]) -> None:
    target = targets.get(host.data.get("cluster_ai_name", host.name))
    if target is None:
        exchange.of(host.state).settle(host, ok=True)
        return
    operations.prepare(name="Make room", target=target)
    operations.credentials(name="Credentials", target=target)  # by which hosts know each other
    operations.bring(name="Transfer", target=target, common=_common(targets))
    operations.unpack(name="Unpack", target=target)
    operations.assemble(name="Assemble and verify", target=target)
    operations.pass_on(name="Pass on", target=target)


@deploy("Renew")  # type: ignore[untyped-decorator]
def renew(targets: Mapping[str, HostTarget]) -> None:
    operations.renew(name="Credentials", target=targets[host.data.get("cluster_ai_name", host.name)])


def _common(targets: Mapping[str, HostTarget]) -> frozenset[str]:
    """Parts and blobs of more than one host."""
    counted = Counter(sha for it in targets.values() for sha in {*(p[1] for p in it.parts), *(b[0] for b in it.blobs)})
    return frozenset(sha for sha, count in counted.items() if count > 1)


@deploy("Switch")  # type: ignore[untyped-decorator]
def switch(targets: Mapping[str, HostTarget], *, timeout: int, one_by_one: bool) -> None:
    """The head host first. one_by_one: workers one after the other; else all at once."""
    target = targets.get(host.data.get("cluster_ai_name", host.name))
    if target is None:
        return
    # Two operations: pyinfra ends one on all hosts before it begins the next.
    if is_head(target):
        operations.switch_to(name="Switch the head host", target=target, timeout=timeout)
    else:
        operations.switch_to(name="Switch workers", target=target, timeout=timeout, _serial=one_by_one)


def is_head(target: HostTarget) -> bool:
    return "head" in json.loads(Path(target.manifest_path).read_text())["roles"]
