"""Local or distributed: whether the engine on the gateway's own host answers, or whichever worker of the cluster.

The head host often has an engine of its own. Its answers cross no network, so short prompts are best off there while it
is idle; a long prompt is read faster by the strongest worker, and a busy engine makes one wait. Pure: it only says which
workers are meant; the relay chooses among them, and goes on to others where they fail.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from cluster_ai.settings import GatewaySettings

Mode = Literal["local", "distributed"]
LONG = 1024  # tokens of a prompt from which its reading takes longer than what a free choice costs
_CHARACTERS_A_TOKEN = 4  # of English; others have fewer, so that their prompts count as shorter than they are


class Candidate(Protocol):
    """Someone who is active and has the model."""

    @property
    def name(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def slots(self) -> int: ...

    @property
    def loaded(self) -> frozenset[str]: ...

    @property
    def gpu(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """prefer: who is meant, as long as one of them can; empty: anyone, by the gateway's policy."""

    mode: Mode
    reason: str
    prefer: frozenset[str] = frozenset()


def on_this_host(settings: GatewaySettings) -> frozenset[str]:
    """Workers whose engine runs on the gateway's host: on loopback, or at the address of the scheduler, which is here."""
    here = {"localhost", "127.0.0.1", "::1", socket.gethostname(), urlsplit(settings.scheduler).hostname}
    return frozenset(u.name for u in settings.upstreams if urlsplit(u.url).hostname in here)


def tokens_of(characters: int) -> int:
    """About how many; the engine alone knows."""
    return -(-characters // _CHARACTERS_A_TOKEN)


def should_distribute(model: str, tokens: int, candidates: Sequence[Candidate], local: Collection[str]) -> Decision:
    """By placement, the prompt's length and load, in this order. candidates: all that could answer now."""
    here = [c for c in candidates if c.name in local]
    others = [c for c in candidates if c.name not in local]
    if not here:
        return Decision("distributed", "no engine on the gateway's host has the model")
    names = frozenset(c.name for c in here)
    if not others:
        return Decision("local", "only the gateway's host has the model", names)
    if tokens >= LONG:
        return _long(tokens, here, others)
    idle = [c for c in here if c.in_flight < c.slots]
    if not idle:
        return Decision("distributed", "the engine on the gateway's host is busy")
    if not any(model in c.loaded for c in idle) and any(model in c.loaded and c.in_flight < c.slots for c in others):
        return Decision("distributed", "the model is in another worker's memory, not in that of the gateway's host")
    names = frozenset(c.name for c in idle)
    return Decision("local", f"a short prompt (about {tokens} tokens), and the gateway's host is free", names)


def _long(tokens: int, here: Sequence[Candidate], others: Sequence[Candidate]) -> Decision:
    most = max(c.gpu for c in (*here, *others))
    strongest = [c for c in (*here, *others) if c.gpu == most]
    free = [c for c in strongest if c.in_flight < c.slots] or strongest
    said = f"a long prompt (about {tokens} tokens)"
    names = frozenset(c.name for c in free)
    if names <= {c.name for c in here}:
        return Decision("local", f"{said}, and the gateway's host is the strongest", names)
    if not most:
        return Decision("distributed", f"{said}; no worker is stronger than the others")
    return Decision("distributed", f"{said}, for those with the most GPUs", names)


def as_asked(mode: Mode, candidates: Sequence[Candidate], local: Collection[str]) -> Decision | None:
    """What a client asked for; None where that can't be: local, and no engine here has the model."""
    if mode == "distributed":
        return Decision("distributed", "asked for")
    here = frozenset(c.name for c in candidates if c.name in local)
    return Decision("local", "asked for", here) if here else None
