"""A rollout's order, apart from what it does: wave by wave, until a host fails or what comes after a wave says stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster_ai.errors import ClusterAIError
from cluster_ai.rollout.waves import Wave

Outcomes = Mapping[str, ClusterAIError | None]  # host -> what went wrong


@dataclass(frozen=True, slots=True)
class Halt:
    """Why no further wave is begun. fail: what was switched is to be returned; pause: a person decides."""

    kind: Literal["fail", "pause"]
    why: str


@dataclass
class Rolled:
    """How far it came."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, ClusterAIError] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)
    halt: Halt | None = None

    @property
    def ok(self) -> bool:
        return not self.failed and self.halt is None


def roll(
    waves: Sequence[Wave], switch: Callable[[Wave], Outcomes], after: Callable[[Wave, bool], Halt | None]
) -> Rolled:
    """switch: all of a wave's hosts. after: what is to be awaited once they are healthy; True: it was the last wave."""
    rolled = Rolled()
    left = list(waves)
    while left and rolled.ok:
        wave = left.pop(0)
        for host, error in switch(wave).items():
            if error is None:
                rolled.done.append(host)
            else:
                rolled.failed[host] = error
        if not rolled.failed:
            rolled.halt = after(wave, not left)
    rolled.untouched = [host for wave in left for host in wave.hosts]
    return rolled


def back(befores: Mapping[str, str | None], *, size: int) -> tuple[tuple[str, ...], ...]:
    """The order in which hosts that were switched return: the last first, `size` at once.

    befores: host -> the release that it ran, in the order of switching. One that ran none has nowhere to return to.
    """
    names = [name for name, before in befores.items() if before is not None][::-1]
    return tuple(tuple(names[at : at + size]) for at in range(0, len(names), size))
