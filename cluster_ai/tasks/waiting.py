"""Tasks that no worker takes now: those who could are away, or have enough. Those behind them come by."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import count

from cluster_ai.tasks.model import Task


class Waiting:
    """By priority, then in the order in which they came."""

    def __init__(self) -> None:
        self._groups: dict[tuple[frozenset[str], bool], list[tuple[int, int, str]]] = {}
        self._numbers: dict[str, int] = {}  # of those that still wait
        self._count = count()

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, task: Task, workers: Iterable[str], *, room: bool) -> None:
        """workers: who could run it. room: one of them must have some; else it is enough that one is there."""
        self._numbers[task.id] = number = next(self._count)
        heap = self._groups.setdefault((frozenset(workers), room), [])
        heapq.heappush(heap, (-task.spec.priority, number, task.id))

    def drop(self, task_id: str) -> None:
        """It waits no more, if it did."""
        self._numbers.pop(task_id, None)

    def clear(self) -> None:
        self._groups.clear()
        self._numbers.clear()

    def next(self, there: Callable[[str], bool], takes: Callable[[str], bool], most: int) -> list[str]:
        """Those that can go now, no more than surely find room; they don't wait any more."""
        found: list[tuple[int, int, str]] = []
        for (workers, room), heap in list(self._groups.items()):
            able = sum(map(takes, workers)) if room else most * any(map(there, workers))
            while heap and able and len(found) < most:
                entry = heapq.heappop(heap)
                if self._numbers.get(entry[-1]) == entry[1]:
                    del self._numbers[entry[-1]]
                    found.append(entry)
                    able -= 1
            if not heap:
                del self._groups[workers, room]
        return [task_id for _, _, task_id in sorted(found)]
