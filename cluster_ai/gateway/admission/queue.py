"""The order in which requests that wait for one model get its free slots. Pure.

A higher priority goes first, but never for ever: a lower one that was passed over PATIENCE times gets a turn. Within a
priority, whoever holds the fewest slots goes first, and equals take turns, however many requests each of them sends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

PATIENCE = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Ticket(Generic[T]):
    """A place in the queue. owner: between whom it is fair; holder: the caller's."""

    owner: str
    priority: int
    holder: T


class FullError(Exception):
    """There is no place, and nobody in the queue must give one up to this request."""


@dataclass(slots=True)
class _Level(Generic[T]):
    """Those of one priority. owners: in the order of their turns."""

    owners: OrderedDict[str, deque[Ticket[T]]] = field(default_factory=OrderedDict)
    passed: int = 0  # how often one of a higher priority went first

    def most(self) -> str:
        """Who has the most in it."""
        return max(self.owners, key=lambda owner: len(self.owners[owner]))

    def forget(self, ticket: Ticket[T]) -> None:
        waiting = self.owners[ticket.owner]
        waiting.remove(ticket)
        if not waiting:
            del self.owners[ticket.owner]


class FairQueue(Generic[T]):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._levels: dict[int, _Level[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, ticket: Ticket[T]) -> Ticket[T] | None:
        """Whoever lost their place to it, if anyone had to. Raises FullError.

        In a full queue the last request of whoever has the most there gives way, of the lowest priority first: so one
        who floods it keeps nobody else out.
        """
        out = None
        if self._size >= self._limit:
            out = self._loser(ticket)
            if out is None:
                raise FullError
            self.remove(out)
        level = self._levels.setdefault(ticket.priority, _Level())
        level.owners.setdefault(ticket.owner, deque()).append(ticket)
        self._size += 1
        return out

    def remove(self, ticket: Ticket[T]) -> None:
        """It waits no longer. Raises KeyError or ValueError when it didn't."""
        level = self._levels[ticket.priority]
        level.forget(ticket)
        if not level.owners:
            del self._levels[ticket.priority]
        self._size -= 1

    def take(self, held: Mapping[str, int]) -> Ticket[T]:
        """The next; there is one. held: slots that each owner has now."""
        priority = self._next_level()
        level = self._levels[priority]
        level.passed = 0
        for lower, other in self._levels.items():
            other.passed += lower < priority
        owner = min(level.owners, key=lambda name: held.get(name, 0))  # of equals the first in turn
        ticket = level.owners[owner][0]
        level.owners.move_to_end(owner)
        self.remove(ticket)
        return ticket

    def _next_level(self) -> int:
        return max(self._levels, key=lambda p: (max(self._levels[p].passed - PATIENCE + 1, 0), p))

    def _loser(self, newcomer: Ticket[T]) -> Ticket[T] | None:
        if not self._levels:
            return None
        lowest = min(self._levels)
        level = self._levels[lowest]
        owner = level.most()
        theirs, own = level.owners[owner], level.owners.get(newcomer.owner, ())
        more = newcomer.priority == lowest and len(theirs) > len(own) + 1
        return theirs[-1] if newcomer.priority > lowest or more else None
