"""Which cluster is meant, that of cluster.yaml or that of `cluster-ai up`, and its Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster_ai.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from cluster_ai.cli.main import Invocation
    from cluster_ai.local.model import Paths
    from cluster_ai.local.state import State
    from cluster_ai.rollout.prometheus import Prometheus
    from cluster_ai.rollout.scope import Scope


def paths_of(invocation: Invocation) -> Paths:
    """Where the cluster of this machine has its files."""
    from cluster_ai.local.model import Paths

    return Paths(invocation.config_path.resolve().parent / ".cluster-ai")


def local_of(invocation: Invocation) -> State | None:
    """The cluster of this machine; None: none is up."""
    from cluster_ai.local import state

    return state.read(paths_of(invocation))


def no_such(host: str, there: Sequence[str]) -> ConfigError:
    """Of a name that the cluster of this machine doesn't have."""
    return ConfigError(
        f"there is no {host!r} in the cluster that is up on this machine",
        remedy=f"it has: {', '.join(there)}; for a host of cluster.yaml end it first: cluster-ai down",
    )


def scope_of(invocation: Invocation, password: str | None) -> Scope | None:
    """None for the cluster of this machine, which needs no cluster.yaml."""
    if local_of(invocation) is not None:
        return None
    from cluster_ai.rollout.scope import Scope

    return Scope(invocation.config(), (), password)


def prometheus_of(invocation: Invocation, scope: Scope | None) -> Prometheus:
    """Raises UnavailableError."""
    from cluster_ai.rollout.prometheus import Prometheus, of_head

    if scope is not None:
        return of_head(scope)
    from cluster_ai.local import http

    local = local_of(invocation)
    if local is None or local.prometheus is None:
        raise UnavailableError("the cluster of this machine has none")
    url = local.prometheus

    def ask(path: str) -> tuple[int, str]:
        try:
            return http.get(url + path, 30)
        except OSError as error:
            raise UnavailableError(f"it doesn't answer: {error}", where=url) from error

    return Prometheus(ask, where=url)
