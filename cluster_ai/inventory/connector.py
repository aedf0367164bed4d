"""pyinfra's connector @cluster: `pyinfra @cluster deploy.py`, `pyinfra @cluster/worker-1 exec -- uptime`.

It only says which hosts there are; pyinfra's SSH connector reaches them. cluster.yaml is the one in the current
directory, or $CLUSTER_AI_CONFIG.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import InventoryError
from pyinfra.connectors.base import BaseConnector

from cluster_ai.config import hosts, load
from cluster_ai.config.groups import group_members
from cluster_ai.errors import ClusterAIError
from cluster_ai.inventory.groups import pyinfra_data


class ClusterConnector(BaseConnector):  # type: ignore[misc]
    """The hosts of cluster.yaml."""

    handles_execution = False

    @staticmethod
    def make_names_data(name: str | None = None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Every host, or the one that is named; a group's name means its hosts."""
        path = Path(os.environ.get("CLUSTER_AI_CONFIG", "cluster.yaml"))
        try:
            config = load(path)
        except ClusterAIError as error:
            raise InventoryError(str(error)) from None
        groups = group_members(config)
        chosen = [
            host for host in hosts(config) if name in (None, "", host.name) or host.name in groups.get(name or "", ())
        ]
        if not chosen:
            names = ", ".join([*(host.name for host in hosts(config)), *groups])
            raise InventoryError(f"{path} has no host and no group {name!r}; it has: {names}")
        for host in chosen:
            mine = ["@cluster", *(group for group, members in groups.items() if host.name in members)]
            yield f"@cluster/{host.name}", pyinfra_data(config, host), mine
