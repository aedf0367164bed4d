"""Who is switched together, and what is waited for afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["head", "first", "canary", "rolling", "green", "blue"]


@dataclass(frozen=True, slots=True)
class Wave:
    """Hosts that are switched together. Whatever the kind, the next wave begins only when all of these are healthy."""

    hosts: tuple[str, ...]
    kind: Kind
    pause: float = 0.0  # seconds after it, before the next one
    bake: float = 0.0  # seconds of traffic that are analysed after it; 0: none

    def as_dict(self) -> dict[str, Any]:
        return {"hosts": list(self.hosts), "kind": self.kind, "pause": self.pause, "bake": self.bake}


def budget(max_unavailable: int | float, workers: int, down: int = 0) -> int:
    """How many workers may be out at once: a number, or a share of all; who is down counts. Never less than one."""
    allowed = int(max_unavailable * workers) if isinstance(max_unavailable, float) else max_unavailable
    return max(1, allowed - down)


def waves(changing: Iterable[str], *, head: str, new: frozenset[str], size: int) -> tuple[Wave, ...]:
    """Order the hosts that change.

    Who has no predecessor serves nobody yet, so all of those go together, a new head with them. A head that serves goes
    first and alone, for it may know more than its workers, but never less; then those new; then workers by `size`.
    """
    names = list(changing)
    rest = [name for name in names if name not in new and name != head]
    ordered = [
        Wave(tuple(name for name in names if name == head and name not in new), "head"),
        Wave(tuple(name for name in names if name in new), "first"),
        *(Wave(tuple(rest[at : at + size]), "rolling") for at in range(0, len(rest), size)),
    ]
    return tuple(wave for wave in ordered if wave.hosts)
