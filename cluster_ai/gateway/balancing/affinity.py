"""Where the beginning of the conversation is in a cache still, as long as that is cheaper than to read it anew.

An Ollama runner has as many cache slots as it runs requests at once (OLLAMA_NUM_PARALLEL), and each holds the tokens of
one conversation: what it read and what it wrote. A request takes the free slot that shares the longest beginning with
its prompt, reads the rest, and with that overwrites what else was there (findLongestCacheSlot in
runner/llamarunner/cache.go; any two prompts share their first tokens, so slots that hold nothing come last). The policy
does the same with hashes, one list of slots for each worker and model: it knows what is where without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import ceil

from cluster_ai.gateway.balancing.policy import MANY, Asked, C, Candidate, shortlist
from cluster_ai.gateway.balancing.prefix import Chain
from cluster_ai.gateway.balancing.resource_aware import answers, quickest

READING = 4000  # characters of a prompt that take as long as an answer: about 1000 tokens read for 100 written


class _Slot:
    """What a runner's cache slot holds."""

    __slots__ = ("end", "links", "used", "worker")

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.links: tuple[int, ...] = ()
        self.end = 0  # characters
        self.used = 0  # when, counted in requests


class _Runner:
    """The slots of one worker for one model."""

    __slots__ = ("_recent", "last", "slots")

    def __init__(self, worker: str, slots: int) -> None:
        self.slots = [_Slot(worker) for _ in range(max(slots, 1))]
        self._recent = list(self.slots)  # whoever was given something last stands last
        self.last = 0  # when it was last given something

    def free(self, in_flight: int) -> Sequence[_Slot]:
        """Those in which nothing runs: what began last runs still. Of a full one the slot that is free next."""
        running = self._running(in_flight)
        return [s for s in self.slots if s not in running] if running else self.slots

    def is_free(self, slot: _Slot, in_flight: int) -> bool:
        return slot not in self._running(in_flight)

    def victim(self, in_flight: int) -> _Slot | None:
        """What a conversation that is new there drives out; None: nothing."""
        running = self._running(in_flight)
        return next((s for s in self.slots if s.links and s not in running), None)

    def gave(self, slot: _Slot, now: int) -> None:
        slot.used = self.last = now
        self._recent.remove(slot)
        self._recent.append(slot)

    def _running(self, in_flight: int) -> Collection[_Slot]:
        busy = min(in_flight, len(self.slots) - 1)
        return set(self._recent[-busy:]) if busy > 0 else ()


class Caches:
    """What is in which worker's slots, as far as requests have gone through here."""

    def __init__(self) -> None:
        self._runners: dict[tuple[str, str], _Runner] = {}  # by worker and model
        self._holders: dict[int, set[_Slot]] = {}  # by link; whoever holds a link holds those before it
        self.now = 0
        self._held = 1  # slots that hold something, and one more

    def depth(self, chain: Chain) -> int:
        """How many links of it anyone holds."""
        links, low, high = chain.links, 0, len(chain.links)
        while low < high:
            middle = (low + high) // 2
            if links[middle] in self._holders:
                low = middle + 1
            else:
                high = middle
        return low

    def holders(self, link: int) -> Collection[_Slot]:
        return self._holders.get(link, ())

    def among(self, workers: Iterable[str], model: str, link: int, at: int) -> Collection[_Slot]:
        """Of the holders those at these workers. at: the link's place."""
        runners = (self._runners.get((name, model)) for name in workers)
        held = (s for runner in runners if runner is not None for s in runner.slots)
        return [s for s in held if len(s.links) > at and s.links[at] == link]

    def runner(self, worker: str, model: str) -> _Runner | None:
        return self._runners.get((worker, model))

    def regret(self, slot: _Slot | None, kept: int = 0) -> float:
        """The characters that will have to be read again, should it be driven out: the likelier the fresher it is.

        kept: those that stay.
        """
        if slot is None or slot.end <= kept:
            return 0.0
        return (slot.end - kept) / (1 + (self.now - slot.used) / self._held)

    def held(self) -> int:
        """Slots that hold something."""
        return self._held - 1

    def take(self, worker: Candidate, model: str, chain: Chain) -> None:
        """The worker has got this now, beside what it had in flight."""
        self.now += 1
        if not chain.links:
            return
        runner = self._runners.get((worker.name, model))
        if runner is None:
            runner = self._runners[worker.name, model] = _Runner(worker.name, worker.slots)
        slot, shared, filled = None, 0, False
        if chain.links[0] not in self._holders:  # nobody shares anything with it
            slot = runner.victim(worker.in_flight)
            filled = slot is not None
        for one in runner.free(worker.in_flight) if slot is None else ():
            same = common(one.links, chain.links)
            if slot is None or (same, bool(one.links)) > (shared, filled):
                slot, shared, filled = one, same, bool(one.links)
        assert slot is not None
        self._held += not filled
        for link in slot.links[shared:]:
            self._forget(link, slot)
        for link in chain.links[shared:]:
            self._holders.setdefault(link, set()).add(slot)
        slot.links, slot.end = chain.links, chain.ends[-1]
        runner.gave(slot, self.now)

    def _forget(self, link: int, slot: _Slot) -> None:
        holders = self._holders.get(link)
        if holders is not None:
            holders.discard(slot)
            if not holders:
                del self._holders[link]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many links they share."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low


class Affinity:
    """Wherever the answer costs least, what must be read for it included: a cache is worth what it saves, no more.

    So a conversation stays where it was while that is free, moves when it isn't, and what is new goes where it is done
    soonest and drives out what is least likely to come back. Bounded: no worker is given more than its slots, or its
    share of all requests where those are more than all slots.
    """

    def __init__(self) -> None:
        self.caches = Caches()

    def choose(self, candidates: Sequence[C], call: Asked) -> C:
        model, chain = call.model, call.prefix()
        chosen = self._cheapest(candidates, model, chain) if len(candidates) > 1 else candidates[0]
        self.caches.take(chosen, model, chain)
        return chosen

    def _cheapest(self, candidates: Sequence[C], model: str, chain: Chain) -> C:
        caches = self.caches
        few = shortlist(candidates, caches.now)
        presumed, most = quickest(few, model), bound(few)
        size = chain.ends[-1] if chain.links else 0

        def cost(c: C, saved: int, lost: float) -> float:
            return (answers(c, model) + (size - saved + lost) / READING) / (c.speed(model) or presumed)

        def as_new(c: C) -> tuple[float, int]:
            runner = caches.runner(c.name, model)
            if runner is None:
                return cost(c, 0, 0.0), 0
            return cost(c, 0, caches.regret(runner.victim(c.in_flight))), runner.last

        best = min((c for c in few if c.in_flight < most(c)), key=as_new)
        depth = caches.depth(chain)
        if not depth:
            return best
        least, named, seen = as_new(best)[0], {c.name: c for c in candidates}, 0
        for at in range(depth - 1, -1, -1):
            slots = caches.holders(chain.links[at])
            if len(slots) == seen:
                continue  # they were looked at one link later
            seen = len(slots)
            if seen > MANY:  # a system prompt that is everywhere
                slots = caches.among([c.name for c in few], model, chain.links[at], at)
            for name, slot in _workers(slots).items():
                worker = named.get(name)
                if worker is None or worker.in_flight >= most(worker) or model not in worker.loaded:
                    continue
                runner = caches.runner(name, model)
                if worker.in_flight and runner is not None and not runner.is_free(slot, worker.in_flight):
                    continue
                goes_on = len(slot.links) == at + 1 < len(chain.links)  # then it has its own answer too
                price = cost(worker, chain.ends[at + goes_on], caches.regret(slot, chain.ends[at]))
                if price <= least:
                    best, least = worker, price
        return best


def _workers(slots: Iterable[_Slot]) -> dict[str, _Slot]:
    """Of each worker the slot that has the least beside what they share."""
    found: dict[str, _Slot] = {}
    for slot in slots:
        other = found.get(slot.worker)
        if other is None or (len(slot.links), slot.used) < (len(other.links), other.used):
            found[slot.worker] = slot
    return found


def bound(candidates: Sequence[Candidate]) -> Callable[[Candidate], int]:
    """How many requests a worker may have; not all of them have as many."""
    asked, slots = sum(c.in_flight for c in candidates) + 1, sum(c.slots or 1 for c in candidates)
    return lambda c: max(c.slots, ceil(asked * (c.slots or 1) / slots))
