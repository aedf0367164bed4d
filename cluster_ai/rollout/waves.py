"""Who is switched together, and what is waited for afterwards."""

from __future__ import annotations

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
