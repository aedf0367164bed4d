"""What is not as it should be on a host, and who puts it right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["files", "units", "overrides", "credentials", "ports", "packages"]
KINDS: tuple[Kind, ...] = ("files", "units", "overrides", "credentials", "ports", "packages")

# `apply` does it, by the release layer (push and switch) or by the host layer; or nobody but a person can.
Repair = Literal["release", "host layer", "hand"]


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    what: str  # a path, a unit, a port, a package
    how: str
    repair: Repair

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"
