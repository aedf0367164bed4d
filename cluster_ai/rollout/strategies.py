"""From hosts that change to waves, purely: who goes when, so that what must be served still is.

A model's last replica is never taken out while there is another way: a host waits for a later wave when it is the only
one left that serves a model, and others can go meanwhile. Where there is no other way (one replica), the host goes all
the same, and `unavailable` tells what is missed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster_ai.config.model import Policy
from cluster_ai.rollout.waves import Kind, Wave, budget

Group = tuple[Policy, Sequence[str]]  # how they change; all workers in it, whether they change or not


@dataclass(frozen=True, slots=True)
class Serving:
    """Models and the workers that serve them: now, and when everything has changed. Without those that are down."""

    now: Mapping[str, frozenset[str]]
    then: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls,
        placed: Mapping[str, Iterable[str]],
        changes: Mapping[str, tuple[Iterable[str], Iterable[str]]],
        *,
        new: Iterable[str] = (),
        down: Iterable[str] = (),
    ) -> Serving:
        """placed: workers of each model, as configured. changes: models that a worker gains and loses on the way."""
        gone = frozenset(down)
        then = {model: frozenset(workers) - gone for model, workers in placed.items()}
        now = {model: set(workers.difference(new)) for model, workers in then.items()}
        for worker, (gained, lost) in changes.items():
            for model in gained:
                now.get(model, set()).discard(worker)
            for model in lost:
                if model in now and worker not in gone:
                    now[model].add(worker)
        return cls({model: frozenset(workers) for model, workers in now.items()}, then)


class _Rollout:
    """What is served while waves pass. Models that are new, or wanted no more, nobody misses."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._by = {model: set(now) for model, now in serving.now.items() if now and serving.then.get(model)}
        self._of: dict[str, set[str]] = {}
        for model in self._by:
            for host in serving.now[model] | serving.then[model]:
                self._of.setdefault(host, set()).add(model)

    def change(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            for model in self.models(host):
                if host in self._serving.then[model]:
                    self._by[model].add(host)
                else:
                    self._by[model].discard(host)

    def missed(self, out: Iterable[str]) -> set[str]:
        """Models that nobody serves while these hosts are out."""
        away = frozenset(out)
        return {model for model, by in self._by.items() if by <= away}

    def taken(self, out: Iterable[str], host: str) -> set[str]:
        """Models of a host that are served now, and wouldn't be while these are out."""
        away = frozenset(out)
        return {model for model in self.models(host) if self._by[model] and self._by[model] <= away}

    def models(self, host: str) -> set[str]:
        return self._of.get(host, set())

    def loses(self, host: str) -> bool:
        """It serves something now that it won't serve then, so that others should be there before."""
        return any(host in self._serving.now[m] and host not in self._serving.then[m] for m in self.models(host))

    def take(self, pending: Sequence[str], size: int) -> list[str]:
        """Hosts of the next wave: those first that nobody misses, then those who can't be spared later either.

        Together they take away no more than each alone.
        """
        alone = {host: self.taken([host], host) for host in pending}
        later = {host: sum(self._comes(model, host, pending) for model in alone[host]) for host in pending}
        least = min(later.values())
        pool = [host for host in pending if not alone[host]] or [host for host in pending if later[host] == least]
        taken: list[str] = []
        unavoidable: set[str] = set()
        for host in pool:
            if len(taken) == size:
                break
            if self.taken([*taken, host], host) <= unavoidable | alone[host]:
                taken.append(host)
                unavoidable |= alone[host]
        return taken

    def _comes(self, model: str, host: str, pending: Sequence[str]) -> bool:
        """Others that are to change will serve it, so that it could wait for them."""
        now, then = self._serving.now[model], self._serving.then[model]
        return any(other != host and other in then and other not in now for other in pending)

    def together(self, hosts: Sequence[str], kind: Kind) -> list[Wave]:
        self.change(hosts)
        return [Wave(tuple(hosts), kind)] if hosts else []

    def waves(self, hosts: Sequence[str], size: int, kind: Kind, *, most: int | None = None) -> list[Wave]:
        """All of them, or as many as `most`, in as many waves as it takes."""
        pending, left = list(hosts), len(hosts) if most is None else min(most, len(hosts))
        found: list[Wave] = []
        while left:
            taken = self.take(pending, min(size, left))
            found += self.together(taken, kind)
            pending = [host for host in pending if host not in taken]
            left -= len(taken)
        return found

    def half(self, hosts: Sequence[str]) -> list[str]:
        """One half of them, such that of each model the other half has a replica, where that can be."""
        shared = self.missed(hosts)
        most = (len(hosts) + 1) // 2
        sides: tuple[list[str], list[str]] = ([], [])
        has: tuple[set[str], set[str]] = (set(), set())
        for host in sorted(hosts, key=lambda host: -len(shared & self.models(host))):
            mine = shared & self.models(host)
            side = min(
                (side for side in (0, 1) if len(sides[side]) < most),
                key=lambda side: (len(mine & has[side] - has[1 - side]), len(sides[side])),
            )
            sides[side].append(host)
            has[side].update(mine)
        return [host for host in hosts if host in sides[0]]


def order(
    changing: Iterable[str],
    *,
    head: str,
    new: frozenset[str],
    groups: Sequence[Group],
    serving: Serving,
    down: frozenset[str] = frozenset(),
) -> tuple[Wave, ...]:
    """Waves of the hosts that change. new: those without a predecessor. groups: every worker in exactly one.

    A head that serves goes first and alone, for it may know more than its workers, but never less. Then all that are
    new together, since they serve nobody yet; a new head with them. Then group by group, by its strategy.
    """
    names = list(changing)
    rollout = _Rollout(serving)
    waves = [
        *rollout.waves([name for name in names if name == head and name not in new], 1, "head"),
        *rollout.together([name for name in names if name in new], "first"),
    ]
    for policy, members in groups:
        pending = [name for name in names if name in members and name != head and name not in new]
        waves += _group(policy, pending, members, len(down.intersection(members)), rollout)
    return (*waves[:-1], *(replace(last, pause=0.0) for last in waves[-1:]))


def _group(policy: Policy, pending: list[str], members: Sequence[str], down: int, rollout: _Rollout) -> list[Wave]:
    pending = sorted(pending, key=rollout.loses)
    if policy.strategy == "blue-green":
        half = max(1, (len(members) + 1) // 2 - down)
        green = rollout.half(pending)
        waves = [
            *_baked(rollout.waves(green, half, "green"), policy),
            *rollout.waves([name for name in pending if name not in green], half, "blue"),
        ]
    else:
        size = budget(policy.max_unavailable, len(members), down)
        first = _canaries(policy, pending, len(members)) if policy.strategy == "canary" else 0
        if isinstance(first, int):
            telling = sorted(pending, key=lambda host: not rollout.models(host))  # without models there is no traffic
            waves = _baked(rollout.waves(telling, size, "canary", most=first), policy)
        else:
            waves = _baked(rollout.waves(first, size, "canary"), policy)
        gone = {name for wave in waves for name in wave.hosts}
        waves += rollout.waves([name for name in pending if name not in gone], size, "rolling")
    return [replace(wave, pause=policy.pause) for wave in waves]


def _canaries(policy: Policy, pending: Sequence[str], workers: int) -> int | list[str]:
    """How many go first, or who. When none of those named changes, one of the others does."""
    chosen = policy.canary.hosts
    if isinstance(chosen, tuple):
        return [name for name in pending if name in chosen] or 1
    return budget(chosen, workers)


def _baked(waves: list[Wave], policy: Policy) -> list[Wave]:
    """With traffic to be analysed after each."""
    return [replace(wave, bake=policy.canary.bake) for wave in waves]


def unavailable(waves: Sequence[Wave], serving: Serving) -> dict[int, tuple[str, ...]]:
    """Models that nobody serves while a wave's hosts are out, by the wave's number; without waves that spare all."""
    rollout = _Rollout(serving)
    found = {}
    for index, wave in enumerate(waves):
        if missed := rollout.missed(wave.hosts):
            found[index] = tuple(sorted(missed))
        rollout.change(wave.hosts)
    return found
