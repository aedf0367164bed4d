"""How often a login may be tried: after some failures each further one makes whoever tries wait twice as long.

Counted for an account from one address, for an address, and for an account from wherever, each with its own patience:
who is locked out by a stranger's guesses waits a minute at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal

FREE = 5  # failures that cost nothing, of one account from one address
_OF_ADDRESS, _OF_ACCOUNT = 20, 30
_LONGEST, _LONGEST_OF_ACCOUNT = 900.0, 60.0  # seconds
_FORGOTTEN = 3600.0  # seconds after the last failure
_KEPT = 8192


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0


class Throttle:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], _Failures] = {}

    def must_wait(self, account: str, address: str) -> None:
        """Raises Refusal (429) while it is too early for another try; that try itself isn't looked at."""
        now = self._clock()
        wait = max(self._wait(key, free, longest, now) for key, free, longest in _watched(account, address))
        if wait > 0:
            seconds = math.ceil(wait)
            text = f"too many logins failed; try again in {seconds} s"
            raise Refusal(429, "too_many_logins", text, [(b"retry-after", b"%d" % seconds)])

    def failed(self, account: str, address: str) -> None:
        now = self._clock()
        if len(self._known) >= _KEPT:
            self._forget(now)
        for key, _, _ in _watched(account, address):
            known = self._known.setdefault(key, _Failures())
            if now - known.last > _FORGOTTEN:
                known.count = 0
            known.count, known.last = known.count + 1, now

    def succeeded(self, account: str, address: str) -> None:
        """It was no failure. What others guess at the account, or the address at others', still counts."""
        self._known.pop((account, address), None)
        for key in (("", address), (account, "")):
            known = self._known.get(key)
            if known is not None:
                known.count = max(known.count - 1, 0)

    def _wait(self, key: tuple[str, str], free: int, longest: float, now: float) -> float:
        known = self._known.get(key)
        if known is None or known.count < free or now - known.last > _FORGOTTEN:
            return 0.0
        delay = min(2.0 ** min(known.count - free, 20), longest)
        return known.last + delay - now

    def _forget(self, now: float) -> None:
        """The old ones, and if that isn't enough, those that failed least."""
        live = {key: it for key, it in self._known.items() if now - it.last <= _FORGOTTEN}
        kept = sorted(live, key=lambda key: live[key].count, reverse=True)[: _KEPT // 2]
        self._known = {key: live[key] for key in kept}


def _watched(account: str, address: str) -> tuple[tuple[tuple[str, str], int, float], ...]:
    return (
        ((account, address), FREE, _LONGEST),
        (("", address), _OF_ADDRESS, _LONGEST),
        ((account, ""), _OF_ACCOUNT, _LONGEST_OF_ACCOUNT),
    )
