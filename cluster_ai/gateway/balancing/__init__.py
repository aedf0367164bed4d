"""Which worker answers: pure policies, one small class each behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar


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


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    def choose(self, candidates: Sequence[C], model: str) -> C:
        """One of the candidates, of which there is at least one."""
        ...


class _Turns:
    """Who was chosen how long ago, so that equals take turns."""

    def __init__(self) -> None:
        self._now = 0
        self._last: dict[str, int] = {}

    def last(self, name: str) -> int:
        return self._last.get(name, 0)

    def take(self, name: str) -> None:
        self._now += 1
        self._last[name] = self._now


class LeastLoaded:
    """A free slot first, there a worker that has the model in memory; then the smallest share of slots in use.

    A worker with the model in memory whose slots are all taken comes after an idle one that must load it first: a queue
    behind a running generation is longer than a load. Where nobody has a slot, memory decides between equal queues.
    """

    def __init__(self) -> None:
        self._turns = _Turns()

    def choose(self, candidates: Sequence[C], model: str) -> C:
        if len(candidates) == 1:
            return candidates[0]

        def rank(c: C) -> tuple[bool, bool | float, bool | float, int]:
            share, cold = c.in_flight / max(c.slots, 1), model not in c.loaded
            if share < 1:
                return (False, cold, share, self._turns.last(c.name))
            return (True, share, cold, self._turns.last(c.name))

        chosen = min(candidates, key=rank)
        self._turns.take(chosen.name)
        return chosen


class RoundRobin:
    """Each in turn, whatever it is doing."""

    def __init__(self) -> None:
        self._turns = _Turns()

    def choose(self, candidates: Sequence[C], model: str) -> C:
        chosen = min(candidates, key=lambda c: self._turns.last(c.name))
        self._turns.take(chosen.name)
        return chosen


def policy(name: Literal["least_loaded", "round_robin"]) -> Policy:
    return RoundRobin() if name == "round_robin" else LeastLoaded()
