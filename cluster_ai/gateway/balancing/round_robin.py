"""Each in turn, whatever it is doing."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_ai.gateway.balancing.policy import Asked, C, Turns


class RoundRobin:
    def __init__(self) -> None:
        self._turns = Turns()

    def choose(self, candidates: Sequence[C], call: Asked) -> C:
        chosen = min(candidates, key=lambda c: self._turns.last(c.name))
        self._turns.take(chosen.name)
        return chosen
