"""A free slot first, there a worker that has the model in memory; then the smallest share of slots in use."""

from __future__ import annotations

from collections.abc import Sequence

from cluster_ai.gateway.balancing.policy import Asked, C, Candidate, Turns, shortlist

FULL = 2.0  # the load of a worker whose slots are all taken, and above
_TIE = 1e-6


class LeastLoaded:
    """A worker with the model in memory whose slots are all taken comes after an idle one that must load it first.

    A queue behind a running generation is longer than a load. Where nobody has a slot, memory decides between equal
    queues.
    """

    def __init__(self) -> None:
        self._turns = Turns()

    def choose(self, candidates: Sequence[C], call: Asked) -> C:
        model, last = call.model, self._turns.last
        few = shortlist(candidates, self._turns.now)
        chosen = min(few, key=lambda c: (load(c, model), last(c.name)))
        self._turns.take(chosen.name)
        return chosen


def load(candidate: Candidate, model: str) -> float:
    """The smaller, the sooner it begins with a request of this model: free and warm, free and cold, then by queue."""
    share, cold = candidate.in_flight / (candidate.slots or 1), model not in candidate.loaded
    return cold + share if share < 1 else FULL + share + cold * _TIE
