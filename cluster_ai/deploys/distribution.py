"""Who sends which file to whom, so that a file leaves the controller once, however many hosts want it. Pure.

A file goes down a tree: from the controller to the first host that asks, from there to FAN_OUT others, and so on; each
passes on what it has while the rest still comes in. A host whose source is at fault says so, and is named another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTROLLER = ""  # as a source
FAN_OUT = 2  # hosts that a host sends the same file to at once
UNREACHED = 2  # so many that can't be reached from here, or that can't reach this one, and it is on its own

Why = Literal["unreachable", "corrupt"]


@dataclass(frozen=True, slots=True)
class Step:
    """A file goes from its source (a host, or CONTROLLER) to a host."""

    file: str
    source: str
    host: str


@dataclass(slots=True)
class _Copy:
    """A host's copy of a file: where it comes from, and whether all of it is there."""

    source: str
    whole: bool = False


class Distribution:
    """What is known while files are under way. Hosts and files are names."""

    def __init__(self, fan_out: int = FAN_OUT) -> None:
        self._fan_out = fan_out
        self._serving: set[str] = set()
        self._order: dict[str, int] = {}  # in which hosts came
        self._copies: dict[str, dict[str, _Copy]] = {}  # file -> host ->
        self._refused: set[Step] = set()
        self._corrupt: set[tuple[str, str]] = set()  # file, host
        self._unreached: set[tuple[str, str]] = set()  # source, host

    def serves(self, host: str, files: Iterable[str] = ()) -> None:
        """A host can be a source from now on, of these files at once."""
        self._serving.add(host)
        self._order.setdefault(host, len(self._order))
        for file in files:
            self._copies.setdefault(file, {})[host] = _Copy(CONTROLLER, whole=True)

    def wants(self, file: str, host: str) -> Step:
        """From where a host gets a file."""
        copies = self._copies.setdefault(file, {})
        near, source = None, CONTROLLER
        if not self._deaf(host):
            busy, load = self._followers([file]), self._followers(self._copies)
            mute = self._mute()
            for other in copies.keys() & self._serving - mute:
                step, depth = Step(file, other, host), self._depth(file, other, host)
                if busy[other] < self._fan_out and step not in self._refused and depth is not None:
                    rank = (depth, load[other], self._order[other])
                    if near is None or rank < near:
                        near, source = rank, other
        copies[host] = _Copy(source)
        return Step(file, source, host)

    def arrived(self, file: str, host: str) -> None:
        """All of a file is there, and is what it must be."""
        if copy := self._copies.get(file, {}).get(host):
            copy.whole = True

    def failed(self, step: Step, why: Why) -> Step:
        """From where it goes on, after a source was at fault."""
        self._refused.add(step)
        if why == "corrupt":
            self._corrupt.add((step.file, step.source))
        else:
            self._unreached.add((step.source, step.host))
        return self.wants(step.file, step.host)

    def left(self, host: str) -> None:
        """A host is no source any more, and gets nothing more."""
        self._serving.discard(host)
        for copies in self._copies.values():
            copies.pop(host, None)

    def _deaf(self, host: str) -> bool:
        """Whether a host reaches others as badly that it is better left to the controller."""
        return sum(reaching == host for _, reaching in self._unreached) >= UNREACHED

    def _mute(self) -> set[str]:
        """Sources that several hosts don't reach."""
        counted = Counter(source for source, _ in self._unreached)
        return {source for source, count in counted.items() if count >= UNREACHED}

    def _followers(self, files: Iterable[str]) -> Counter[str]:
        """How many copies of these files each host is sending."""
        return Counter(it.source for file in files for it in self._copies[file].values() if not it.whole)

    def _depth(self, file: str, source: str, host: str) -> int | None:
        """How many others it passes on its way to a source; None when it won't come there, or comes by this host."""
        copies, at, depth = self._copies[file], source, 0
        while at != CONTROLLER:
            copy = copies.get(at)
            if copy is None or at == host or (file, at) in self._corrupt:
                return None
            at, depth = CONTROLLER if copy.whole else copy.source, depth + 1
        return depth


def plan(
    hosts: Iterable[str],
    have: Mapping[str, Collection[str]],
    missing: Mapping[str, Collection[str]],
    fan_out: int = FAN_OUT,
) -> tuple[Step, ...]:
    """Every step, when hosts ask one after the other and nothing fails.

    All may run at once, since a source passes on what comes in.
    """
    state = Distribution(fan_out)
    asking = list(hosts)
    for host in asking:
        state.serves(host, have.get(host, ()))
    return tuple(state.wants(file, host) for host in asking for file in missing.get(host, ()))
