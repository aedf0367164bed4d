"""What each Dask worker process of a host may have, where there may be several. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_MEMORY = 512 << 20  # bytes; below, a process has hardly room for what it imports


@dataclass(frozen=True, slots=True)
class Shares:
    """most: processes; with all of them the shares are what the host has. first: cores and bytes of the one that is
    always there; others: of each other."""

    most: int
    first: tuple[int, int]
    others: tuple[int, int]


def shares(cpu: int, memory: int, most: int) -> Shares:
    """Equal ones, of as many processes as give each a core and some memory; what is left over is the first's."""
    count = max(1, min(most, cpu, memory // LEAST_MEMORY))
    one_cpu, one_memory = cpu // count, memory // count
    return Shares(count, (cpu - (count - 1) * one_cpu, memory - (count - 1) * one_memory), (one_cpu, one_memory))
