"""Workers and requests as policies see them."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster_ai.gateway.balancing import NO_WISH, Chain, Wish

MODEL = "m"
HOT = frozenset([MODEL])


@dataclass(frozen=True)
class W:
    name: str
    in_flight: int = 0
    slots: int = 1
    loaded: frozenset[str] = field(default_factory=frozenset)
    fits: bool | None = None
    rate: float | None = None

    def room(self, model: str) -> bool | None:
        return self.fits

    def speed(self, model: str) -> float | None:
        return self.rate


@dataclass(frozen=True)
class Ask:
    """said: the messages so far, each as long as its text."""

    said: tuple[str, ...] = ()
    model: str = MODEL
    wish: Wish = NO_WISH

    def prefix(self) -> Chain:
        links, ends, size = [], [], 0
        for n, text in enumerate(self.said, 1):
            size += len(text)
            links.append(hash((self.model, self.said[:n])))
            ends.append(size)
        return Chain(tuple(links), tuple(ends))
