"""Where the beginning of the conversation is in a cache still, as long as that is cheaper than to read it anew.

An Ollama runner has as many cache slots as it runs requests at once (OLLAMA_NUM_PARALLEL), and each holds the tokens of
one conversation: what it read and what it wrote. A request whose prompt begins with all of a slot's tokens goes on in
that slot and reads only what is new. Any other takes the slot that was idle longest, after a copy of what it shares
with another (findBestCacheSlot in runner/llamarunner/cache.go, with OLLAMA_MULTIUSER_CACHE; without, it overwrites
whichever free slot shares most, be it the first words, and so keeps one conversation where it could keep several). The
policy does the same with hashes, one list of slots for each worker and model: it knows what is where without asking.
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


class Caches:
    """What is in which worker's slots, as far as requests have gone through here."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], list[_Slot]] = {}  # by worker and model; the longest idle first
        self._holders: dict[int, set[_Slot]] = {}  # by link; whoever holds a link holds those before it
        self.now = 0
        self._known = 0

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
        held = (s for name in workers for s in self._slots.get((name, model), ()))
        return [s for s in held if len(s.links) > at and s.links[at] == link]

    def victim(self, worker: str, model: str, slots: int) -> _Slot | None:
        """What a conversation that is new there drives out; None: there is a slot to spare."""
        held = self._slots.get((worker, model))
        return held[0] if held and len(held) >= slots else None

    def last(self, worker: str, model: str) -> int:
        """When it was last given something."""
        held = self._slots.get((worker, model))
        return held[-1].used if held else 0

    def regret(self, victim: _Slot | None) -> float:
        """The characters that will have to be read again, should it be driven out: the likelier the fresher it is."""
        return victim.end / (1 + (self.now - victim.used) / self._known) if victim is not None else 0.0

    def held(self) -> int:
        """Slots that hold something."""
        return sum(map(len, self._slots.values()))

    def take(self, worker: str, model: str, slots: int, chain: Chain) -> None:
        """The worker has got this now."""
        self.now += 1
        if not chain.links:
            return
        held = self._slots.setdefault((worker, model), [])
        slot = self._earlier(worker, held, chain)
        if slot is None and len(held) >= max(slots, 1):
            slot = held[0]
        if slot is None:
            slot = _Slot(worker)
            self._known += 1
        else:
            held.remove(slot)
            if not goes_on(slot, chain):
                self._forget(slot)
        held.append(slot)
        for link in chain.links[len(slot.links) :]:
            self._holders.setdefault(link, set()).add(slot)
        slot.links, slot.end, slot.used = chain.links, chain.ends[-1], self.now

    def _earlier(self, worker: str, held: Collection[_Slot], chain: Chain) -> _Slot | None:
        """The slot there whose conversation goes on with this, where there are several the one that has most of it."""
        for at in range(min(self.depth(chain), len(chain.links) - 1) - 1, -1, -1):
            for slot in self.holders(chain.links[at]):
                if slot.worker == worker and len(slot.links) == at + 1 and slot in held:
                    return slot
        return None

    def _forget(self, slot: _Slot) -> None:
        for link in slot.links:
            holders = self._holders.get(link)
            if holders is not None:
                holders.discard(slot)
                if not holders:
                    del self._holders[link]
        slot.links = ()


def goes_on(slot: _Slot, chain: Chain) -> bool:
    """Whether the request is the slot's conversation, and a later turn of it."""
    known = len(slot.links)
    return 0 < known < len(chain.links) and chain.links[known - 1] == slot.links[-1]


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
        self.caches.take(chosen.name, model, chosen.slots, chain)
        return chosen

    def _cheapest(self, candidates: Sequence[C], model: str, chain: Chain) -> C:
        caches = self.caches
        few = shortlist(candidates, caches.now)
        presumed, most = quickest(few, model), bound(few)
        size = chain.ends[-1] if chain.links else 0

        def cost(c: C, saved: int, lost: float) -> float:
            return (answers(c, model) + (size - saved + lost) / READING) / (c.speed(model) or presumed)

        def as_new(c: C) -> tuple[float, int]:
            lost = caches.regret(caches.victim(c.name, model, c.slots))
            return cost(c, 0, lost), caches.last(c.name, model)

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
            for name, later in _workers(slots, at, chain).items():
                worker = named.get(name)
                if worker is None or worker.in_flight >= most(worker) or model not in worker.loaded:
                    continue
                saved = chain.ends[at + later]
                lost = 0.0 if later else caches.regret(caches.victim(name, model, worker.slots))
                price = cost(worker, saved, lost)
                if price <= least:
                    best, least = worker, price
        return best


def _workers(slots: Collection[_Slot], at: int, chain: Chain) -> dict[str, bool]:
    """Who has the chain up to there. True: as a conversation that goes on now, so its answer is cached too."""
    found: dict[str, bool] = {}
    more = at + 1 < len(chain.links)
    for slot in slots:
        later = more and len(slot.links) == at + 1
        if later or slot.worker not in found:
            found[slot.worker] = later
    return found


def bound(candidates: Sequence[Candidate]) -> Callable[[Candidate], int]:
    """How many requests a worker may have; not all of them have as many."""
    asked, slots = sum(c.in_flight for c in candidates) + 1, sum(c.slots or 1 for c in candidates)
    return lambda c: max(c.slots, ceil(asked * (c.slots or 1) / slots))
