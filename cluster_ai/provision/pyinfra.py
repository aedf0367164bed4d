"""pyinfra's edge: deploys run in a process of their own, since pyinfra patches the interpreter it lives in (gevent).

`push` brings everything to the hosts and verifies it, without touching what runs; `switch` makes a pushed release the current one.
Both go on with the other hosts when one fails, and tell of each host apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster_ai.config.model import Config
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import HostError, RolloutError

__all__ = ["Event", "HostOutcome", "HostTarget", "push", "switch"]


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """How it ended on one host."""

    ok: bool
    changed: bool
    error: HostError | RolloutError | None = None


def push(
    config: Config, targets: Sequence[HostTarget], *, sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    """Parts, blobs, credentials and the switch script to all targets at once; every file's SHA-256 is checked on the host."""
    raise NotImplementedError


def switch(
    config: Config, hosts: Sequence[HostTarget], *, sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    """Make each host's pushed release its current one, all `hosts` at once. A host whose gate fails is back on what it had before."""
    raise NotImplementedError
