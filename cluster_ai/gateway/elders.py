"""Gateways that only finish their streams, beside the one that has taken over: it must know what they still have.

A worker is empty only when no gateway has anything under way there. One that ends keeps a small file in the folder that
they share, fresh for as long as it lives; the other one adds it to its own numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

INTERVAL = 0.5  # seconds between two writings
FRESH = 5.0  # seconds after which a file is one of a gateway that was killed


class Elders:
    """directory None: there are none."""

    def __init__(self, directory: Path | None, pid: int | None = None) -> None:
        self._directory = directory
        self._own = f"ending-{os.getpid() if pid is None else pid}.json"

    def tell(self, in_flight: Mapping[str, int]) -> None:
        """What this gateway, which ends, has under way by worker. A full disk must not keep it from ending."""
        if self._directory is None:
            return
        beside = self._directory / f".{self._own}"
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps({name: count for name, count in in_flight.items() if count}))
            beside.replace(self._directory / self._own)

    def forget(self) -> None:
        if self._directory is not None:
            (self._directory / self._own).unlink(missing_ok=True)

    def in_flight(self) -> Mapping[str, int]:
        """What other gateways, which end, have under way."""
        total: Counter[str] = Counter()
        for path in self._directory.glob("ending-*.json") if self._directory is not None else ():
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                if path.name == self._own:
                    continue
                if time.time() - path.stat().st_mtime > FRESH:
                    path.unlink(missing_ok=True)
                    continue
                total.update({str(name): int(count) for name, count in json.loads(path.read_text()).items()})
        return total
