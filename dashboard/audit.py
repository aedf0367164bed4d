"""The audit log, as the gateway tells it: lines that are chained by hashes, and whether the chain is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dashboard.gateway import Caller, Gateway
from dashboard.rollouts import seconds

MOST = 500  # lines that are shown


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    at: float  # seconds since 1970
    who: str
    role: str
    what: str
    on: str
    result: str  # done, refused or failed
    address: str
    note: str


@dataclass(frozen=True, slots=True)
class Log:
    """lines: the newest first. problem: what is wrong with the chain; empty: it is whole."""

    lines: tuple[Line, ...]
    head: int
    hash: str
    problem: str


def read(gateway: Gateway, caller: Caller) -> Log:
    said = gateway.get("/api/v1/audit", caller, {"last": "true", "limit": MOST})
    lines = [_line(text) for text in said["lines"]]
    problem = "" if said["good"] else said["problem"] or "a line was changed"
    return Log(tuple(line for line in reversed(lines) if line), said["head"], said["hash"], problem)


def _line(text: str) -> Line | None:
    """None for what can't be read; `problem` then says what is wrong."""
    try:
        it = json.loads(text)
        return Line(
            **{name: str(it.get(name, "")) for name in ("who", "role", "what", "on", "result", "address", "note")},
            number=it["seq"],
            at=seconds(it["at"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
