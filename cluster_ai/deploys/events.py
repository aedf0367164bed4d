"""Where steps are told: to pyinfra's own log on its command line, or to whoever put a listener here."""

from __future__ import annotations

from collections.abc import Callable

from pyinfra.api import Host

from cluster_ai.deploys.data import Event, Status

_listeners: list[Callable[[Event], None]] = []


def listen(listener: Callable[[Event], None]) -> None:
    _listeners.append(listener)


def tell(host: Host, step: str, status: Status, detail: str = "") -> None:
    for listener in _listeners:
        listener(Event(host.name, step, status, detail))
    if not _listeners and status in ("changed", "failed") and detail:
        host.log(f"{step}: {detail}")
