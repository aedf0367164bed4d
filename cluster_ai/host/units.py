"""What systemd says of our units."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster_ai import layout


@dataclass(frozen=True, slots=True)
class UnitState:
    active: str
    sub: str
    restarts: int


def instance(unit: str, system: Path = Path(layout.SYSTEM)) -> str:
    """Of a template, the instance that its release starts: it is linked as wanted. Any other unit is itself."""
    stem, at, _ = unit.partition("@.")
    return next((link.name for link in system.glob(f"*.wants/{stem}@*.service")), unit) if at else unit


def states(units: Sequence[str]) -> dict[str, UnitState]:
    """The state of each unit; one that systemd doesn't know is "inactive"."""
    if not units:
        return {}
    command = ["systemctl", "show", "-p", "Id,ActiveState,SubState,NRestarts", "--", *map(instance, units)]
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
