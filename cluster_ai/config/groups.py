"""Groups of hosts: head, workers, and one for each label, such as room_a12 for `room: 'a12'`."""

from __future__ import annotations

import re

from cluster_ai.config.model import Config, Policy, hosts


def group_members(config: Config) -> dict[str, list[str]]:
    """Names of hosts by group; head and workers first."""
    machines = hosts(config)
    groups: dict[str, list[str]] = {
        "head": [host.name for host in machines if "head" in host.roles],
        "workers": [host.name for host in machines if "worker" in host.roles],
    }
    for host in machines:
        for key, value in host.worker.labels.items() if host.worker else ():
            groups.setdefault(label_group(key, value), []).append(host.name)
    return groups


def label_group(key: str, value: str) -> str:
    """A label as the name of a group: letters, digits and underscores only."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", f"{key}_{value}")
    return f"label_{name}" if name[0].isdigit() or name[0] == "_" else name


def policies(config: Config) -> list[tuple[Policy, tuple[str, ...]]]:
    """How workers change, and which: the groups of `rollout.groups` in their order, then all that are in none."""
    members = group_members(config)
    left = dict.fromkeys(worker.name for worker in config.workers)
    found = []
    for name, policy in config.rollout.groups.items():
        mine = tuple(worker for worker in members[name] if worker in left)
        found.append((policy, mine))
        for worker in mine:
            del left[worker]
    return [*found, (config.rollout.policy, tuple(left))]
