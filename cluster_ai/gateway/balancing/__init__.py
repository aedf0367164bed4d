"""Which worker answers: pure policies, one small class each behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster_ai.gateway.balancing.affinity import Affinity
from cluster_ai.gateway.balancing.least_loaded import LeastLoaded
from cluster_ai.gateway.balancing.policy import Asked, C, Candidate, Policy
from cluster_ai.gateway.balancing.prefix import Chain
from cluster_ai.gateway.balancing.resource_aware import ResourceAware
from cluster_ai.gateway.balancing.round_robin import RoundRobin

POLICIES: dict[str, Callable[[], Policy]] = {
    "affinity": Affinity,
    "least_loaded": LeastLoaded,
    "resource_aware": ResourceAware,
    "round_robin": RoundRobin,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client has a say in. policy: one of POLICIES; worker: this one or none. Empty: as the cluster does.

    prefer: whoever of these can, before all others.
    """

    policy: str = ""
    worker: str = ""
    prefer: frozenset[str] = frozenset()


NO_WISH = Wish()


class WishingAsked(Asked, Protocol):
    @property
    def wish(self) -> Wish: ...


class Balancer:
    """The cluster's policy, and beside it each that a client wished for; they don't know of each other's choices."""

    def __init__(self, default: str) -> None:
        self._default = POLICIES[default]()
        self._others: dict[str, Policy] = {default: self._default}

    def choose(self, candidates: Sequence[C], call: WishingAsked) -> C:
        name, prefer = call.wish.policy, call.wish.prefer
        if prefer:
            candidates = [c for c in candidates if c.name in prefer] or candidates
        if not name:
            return self._default.choose(candidates, call)
        policy = self._others.get(name)
        if policy is None:
            policy = self._others[name] = POLICIES[name]()
        return policy.choose(candidates, call)


__all__ = [
    "NO_WISH",
    "POLICIES",
    "Affinity",
    "Asked",
    "Balancer",
    "Candidate",
    "Chain",
    "LeastLoaded",
    "Policy",
    "ResourceAware",
    "RoundRobin",
    "Wish",
]
