"""Tasks take the slots of an engine that people leave free: a person never waits behind more than what runs already.

Runs in a Dask worker. The gateway tells how many requests of people each worker had lately, through the task manager.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FRESH = 10.0  # seconds that what was told counts: a gateway that is away keeps nothing waiting
PATIENCE = 60.0  # seconds after which a task begins all the same, so that none waits for ever
_LOOK = 1.0


class Turns:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._own = 0
        self._people, self._told = 0, -FRESH
        self.waiting = 0

    def people(self, count: int) -> None:
        """So many slots are theirs."""
        with self._changed:
            self._people, self._told = count, self._clock()
            self._changed.notify_all()

    @contextmanager
    def taking(self, slots: int) -> Iterator[None]:
        """A slot of so many, once there is one."""
        with self._changed:
            began = self._clock()
            self.waiting += 1
            while not self._may(slots) and self._clock() - began < PATIENCE:
                self._changed.wait(_LOOK)
            self.waiting -= 1
            self._own += 1
        try:
            yield
        finally:
            with self._changed:
                self._own -= 1
                self._changed.notify_all()

    def _may(self, slots: int) -> bool:
        people = self._people if self._clock() - self._told < FRESH else 0
        return self._own + people < slots
