"""What pyinfra is told of a host."""

from __future__ import annotations

from cluster_ai.config.model import Host
from cluster_ai.deploys.data import HostTarget
from cluster_ai.release.store import Store
from cluster_ai.rollout import credentials
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey


def host_target(scope: Scope, found: Survey, host: Host, *, renew: bool) -> HostTarget:
    """What a host is to become; with its certificate and keys when `renew` and the plan want new ones."""
    release = found.releases[host.name]
    plan = next(plan for plan in found.plan.hosts if plan.host == host.name)
    store = Store.of(scope.config)
    return HostTarget(
        name=host.name,
        address=host.address,
        digest=release.digest,
        manifest_path=str(store.root / "releases" / f"{release.digest}.json"),
        parts=tuple((part.name, part.sha256, str(part.path)) for part in release.parts),
        blobs=tuple((blob.sha256, str(blob.path)) for blob in release.blobs),
        credentials=credentials.files(scope.config, host)
        if renew and (plan.credentials or plan.certificates)
        else None,
    )
