"""What systemd says of our units."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnitState:
    active: str
    sub: str
    restarts: int


def states(units: Sequence[str]) -> dict[str, UnitState]:
    """The state of each unit; one that systemd doesn't know is "inactive"."""
    if not units:
        return {}
    command = ["systemctl", "show", "-p", "Id,ActiveState,SubState,NRestarts", "--", *units]
    said = subprocess.run(command, text=True, capture_output=True, timeout=30, check=True).stdout
    return parse(units, said)


def parse(units: Sequence[str], said: str) -> dict[str, UnitState]:
    """`systemctl show` prints a block for each unit, in the order that was asked."""
    found = {}
    for unit, block in zip(units, said.strip().split("\n\n"), strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        restarts = int(values.get("NRestarts") or 0)
        found[unit] = UnitState(values.get("ActiveState", ""), values.get("SubState", ""), restarts)
    return found
