"""Where the answer should be whole first, by what each worker was measured to do and has in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from cluster_ai.gateway.balancing.policy import Asked, C, Candidate, Turns, shortlist

_LOAD = 1.0  # what reading a model into memory costs, in answers
_EVICTION = 2.0  # and when another model must go for it, which someone will ask for again


class ResourceAware:
    """For workers of unequal speed: an idle slow one isn't always better than a fast one that has something to do.

    A worker that wasn't measured yet counts as quick as the quickest, so that it is tried.
    """

    def __init__(self) -> None:
        self._turns = Turns()

    def choose(self, candidates: Sequence[C], call: Asked) -> C:
        model, last = call.model, self._turns.last
        few = shortlist(candidates, self._turns.now)
        presumed = quickest(few, model)
        chosen = min(few, key=lambda c: (answers(c, model) / (c.speed(model) or presumed), last(c.name)))
        self._turns.take(chosen.name)
        return chosen


def quickest(candidates: Sequence[Candidate], model: str) -> float:
    """Tokens per second of the best; what isn't known counts as much."""
    return max([c.speed(model) or 0.0 for c in candidates]) or 1.0


def answers(candidate: Candidate, model: str) -> float:
    """How many answers' time one more takes there: its own, slowed by those beside it, and those before it.

    Engines batch what runs at once: k together are about the square root of k times as fast as one.
    """
    slots, asked = candidate.slots or 1, candidate.in_flight + 1
    found = sqrt(asked) if asked <= slots else asked / sqrt(slots)
    if model not in candidate.loaded:
        found += _LOAD if candidate.room(model) is not False else _LOAD + _EVICTION
    return found
