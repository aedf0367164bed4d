"""What a policy is given and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from cluster_ai.gateway.balancing.prefix import Chain


class Candidate(Protocol):
    """What a policy may look at. Everyone it is shown is healthy and has the model."""

    @property
    def name(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def slots(self) -> int: ...

    @property
    def loaded(self) -> frozenset[str]: ...

    def room(self, model: str) -> bool | None:
        """Whether the model fits into its memory beside what is loaded; None: unknown."""
        ...

    def speed(self, model: str) -> float | None:
        """Tokens per second that one answer of this model came at lately; None: not measured yet."""
        ...


class Asked(Protocol):
    """What a policy may know of a request."""

    @property
    def model(self) -> str: ...

    def prefix(self) -> Chain:
        """What the model is to read, from its beginning. Costs something: asked for only by who needs it."""
        ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    def choose(self, candidates: Sequence[C], call: Asked) -> C:
        """One of the candidates, of which there is at least one. It is taken as chosen: a policy may remember."""
        ...


MANY = 32  # workers that are weighed against each other


def shortlist(candidates: Sequence[C], turn: int) -> Sequence[C]:
    """Of very many as many as are worth weighing, others each turn; of those with a free slot, where there are any."""
    if len(candidates) <= MANY:
        return candidates
    found = [c for c in candidates if c.in_flight < c.slots] or candidates
    if len(found) <= MANY:
        return found
    start = turn * MANY % len(found)
    return [*found[start : start + MANY], *found[: max(start + MANY - len(found), 0)]]


class Turns:
    """Who was chosen how long ago, so that equals take turns."""

    def __init__(self) -> None:
        self.now = 0
        self._last: dict[str, int] = {}

    def last(self, name: str) -> int:
        return self._last.get(name, 0)

    def take(self, name: str) -> None:
        self.now += 1
        self._last[name] = self.now
