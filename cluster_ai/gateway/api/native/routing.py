"""Local or distributed: whether the engine on the gateway's own host answers, or whichever worker of the cluster.

The head host often has an engine of its own. Its answers cross no network, so short prompts are best off there while
it is idle; a long prompt is read faster by the strongest worker, and a busy engine makes one wait. Pure: it only says
which workers are meant; the relay chooses among them, and goes on to others where they fail.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from cluster_ai.settings import GatewaySettings

Mode = Literal["local", "distributed"]
LONG = 1024  # tokens of a prompt from which its reading takes longer than what a free choice costs
_CHARACTERS_A_TOKEN = 4  # of English
_NEARLY = 0.9  # of the fastest's speed is as fast


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker that is active and has the model. speed: tokens per second that were measured of it, None: not yet.

    local: its engine runs on the gateway's host.
    """

    name: str
    local: bool
    in_flight: int
    slots: int
    warm: bool  # the model is in its memory
    gpu: int
    speed: float | None

    @property
    def free(self) -> bool:
        return self.in_flight < self.slots


@dataclass(frozen=True, slots=True)
class Decision:
    """prefer: who is meant, as long as one of them can; empty: anyone, by the gateway's policy."""

    mode: Mode
    reason: str
    prefer: frozenset[str] = frozenset()


def on_this_host(settings: GatewaySettings) -> Callable[[str], bool]:
    """Whether a worker of that URL is on the gateway's host: on loopback, or where the scheduler is, which is here."""
    here = {"localhost", "127.0.0.1", "::1", socket.gethostname(), urlsplit(settings.scheduler).hostname}
    return lru_cache(maxsize=4096)(lambda url: urlsplit(url).hostname in here)


def tokens_of(characters: int) -> int:
    """About how many; the engine alone knows."""
    return -(-characters // _CHARACTERS_A_TOKEN)


def should_distribute(tokens: int, seats: Sequence[Seat]) -> Decision:
    """By placement, the prompt's length and load, in this order. seats: all that could answer now."""
    here, others = _split(seats)
    if not here:
        return Decision("distributed", "no engine on the gateway's host has the model")
    if not others:
        return Decision("local", "only the gateway's host has the model", _names(here))
    if tokens >= LONG:
        return _long(tokens, seats)
    idle = [seat for seat in here if seat.free]
    if not idle:
        return Decision("distributed", "the engine on the gateway's host is busy")
    if not any(seat.warm for seat in idle) and any(seat.warm and seat.free for seat in others):
        return Decision("distributed", "the model is in another worker's memory, not in that of the gateway's host")
    return Decision("local", f"a short prompt (about {tokens} tokens), and the gateway's host is free", _names(idle))


def _long(tokens: int, seats: Sequence[Seat]) -> Decision:
    """The strongest are those that were measured as the fastest, or, until all were, those with the most GPUs."""
    if all(seat.speed is not None for seat in seats):
        fastest = max(seat.speed or 0.0 for seat in seats)
        strongest = [seat for seat in seats if (seat.speed or 0.0) >= fastest * _NEARLY]
        how = "the fastest"
    else:
        most = max(seat.gpu for seat in seats)
        strongest, how = [seat for seat in seats if seat.gpu == most], "those with the most GPUs"
    said = f"a long prompt (about {tokens} tokens)"
    if len(strongest) == len(seats):
        return Decision("distributed", f"{said}, and no worker is stronger than the others")
    chosen = [seat for seat in strongest if seat.free] or strongest
    names = _names(chosen)
    if all(seat.local for seat in chosen):
        return Decision("local", f"{said}, and the gateway's host is {how.replace('those', 'one')}", names)
    return Decision("distributed", f"{said}, for {how}", names)


def as_asked(mode: Mode, seats: Sequence[Seat]) -> Decision | None:
    """What a client asked for; None where that can't be: local, and no engine here has the model."""
    if mode == "distributed":
        return Decision("distributed", "asked for")
    here, _ = _split(seats)
    return Decision("local", "asked for", _names(here)) if here else None


def _split(seats: Sequence[Seat]) -> tuple[list[Seat], list[Seat]]:
    return [seat for seat in seats if seat.local], [seat for seat in seats if not seat.local]


def _names(seats: Sequence[Seat]) -> frozenset[str]:
    return frozenset(seat.name for seat in seats)
