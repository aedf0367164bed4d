"""What a worker has for the processes of its tasks, cgroups and cards. Its plugin finds it, tasks/work.py gives it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster_ai.cluster.cgroups import Groups

WAIT = 60.0  # seconds for a card that a cancelled task still has


class Cards:
    """Which cards of the worker a task has to itself. Threads may share it."""

    def __init__(self, uuids: Sequence[str] = ()) -> None:
        self._all, self._busy = tuple(uuids), set[str]()
        self._changed = threading.Condition()

    @property
    def all(self) -> tuple[str, ...]:
        return self._all

    def become(self, uuids: Sequence[str]) -> None:
        """One has gone, or come. Whoever has one keeps it."""
        with self._changed:
            self._all = tuple(uuids)
            self._changed.notify_all()

    @contextmanager
    def taking(self, count: int) -> Iterator[tuple[str, ...]]:
        """So many UUIDs that nobody else has meanwhile. Raises RuntimeError where they aren't free within a minute."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._free()) >= count, WAIT):
                raise RuntimeError(f"only {len(self._free())} of {count} cards are free")
            taken = self._free()[:count]
            self._busy.update(taken)
        try:
            yield taken
        finally:
            with self._changed:
                self._busy.difference_update(taken)
                self._changed.notify_all()

    def _free(self) -> tuple[str, ...]:
        return tuple(it for it in self._all if it not in self._busy)


@dataclass(frozen=True, slots=True)
class Means:
    """groups: None where tasks get no cgroups of their own."""

    groups: Groups | None = None
    cards: Cards = field(default_factory=Cards)


def of(worker: Any) -> Means:
    """Of a Dask worker; one without our plugin has none."""
    found: Means = getattr(worker, "cluster_ai_means", None) or Means()
    return found
