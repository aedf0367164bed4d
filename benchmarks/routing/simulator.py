"""A cluster in a model of it, to try policies on more workers than there are: what happens, event by event.

A worker is an Ollama runner: so many slots, each with the tokens of one conversation, chosen as its source does; all
that run share its speed, and reading a prompt takes the place of writing. Before it, the gateway: its queue, and the
policy, which is the very class that serves. The same seed gives the same numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from statistics import fmean, pstdev

from benchmarks.routing.conversations import Conversation, Turn
from cluster_ai.gateway.balancing import Chain, Policy
from cluster_ai.gateway.balancing.affinity import common

MODEL = "model"
LOADED = frozenset((MODEL,))
TOGETHER = 0.5  # k that run at once are k ** TOGETHER times as fast as one
PATIENCE = 120.0  # seconds in the gateway's queue, as gateway.limits.max_wait
QUEUE = 512  # as gateway.limits.queue


@dataclass(frozen=True, slots=True)
class Machine:
    """What a worker is: tokens per second that it reads and writes alone, seconds to load the model."""

    slots: int
    reads: float
    writes: float
    load: float


MACHINES = (Machine(4, 3000, 80, 4), Machine(2, 1200, 40, 6), Machine(2, 400, 20, 8), Machine(1, 120, 9, 12))


@dataclass(slots=True)
class _Slot:
    links: tuple[int, ...] = ()
    busy: bool = False


@dataclass(slots=True, eq=False)
class Request:
    conversation: Conversation
    turn: Turn
    number: int  # of the turn
    asked: float
    chain: Chain
    model: str = MODEL
    slot: _Slot | None = None
    first: float | None = None
    cached: int = 0  # tokens

    def prefix(self) -> Chain:
        return self.chain


class Worker:
    """A candidate of the policies. Its time goes slower the more run: `done` is how far one that runs has come."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name, self.machine, self.slots = name, machine, machine.slots
        self.loaded: frozenset[str] = frozenset()
        self.in_flight = 0
        self.busy = 0.0  # seconds of slots
        self.version = 0
        self._caches = [_Slot() for _ in range(machine.slots)]
        self._waiting: deque[Request] = deque()
        self._running: list[tuple[float, int, Request]] = []  # by where they change
        self._done = 0.0
        self._at = 0.0
        self._speed: float | None = None
        self._order = count()

    def room(self, model: str) -> bool | None:
        return True

    def speed(self, model: str) -> float | None:
        return self._speed

    def add(self, request: Request, now: float) -> None:
        self._advance(now)
        self.in_flight += 1
        self._waiting.append(request)
        self._begin()

    def next(self) -> float | None:
        """When something happens here by itself."""
        return self._at + max(self._running[0][0] - self._done, 0.0) / self._rate() if self._running else None

    def step(self, now: float) -> tuple[Request, bool]:
        """What happens then: a request has its first token, or its last."""
        self._advance(now)
        _, _, request = heappop(self._running)
        machine = self.machine
        if request.first is None:
            request.first = now
            heappush(self._running, (self._done + request.turn.tokens / machine.writes, next(self._order), request))
            return request, False
        assert request.slot is not None
        request.slot.busy = False
        request.slot.links = request.conversation.links[: request.turn.prompt + 1]
        self.in_flight -= 1
        spoken = request.turn.tokens / max(now - request.first, 1e-9)
        self._speed = spoken if self._speed is None else self._speed + 0.2 * (spoken - self._speed)
        self._begin()
        return request, True

    def _rate(self) -> float:
        return float(len(self._running) ** (TOGETHER - 1))

    def _advance(self, now: float) -> None:
        if self._running:
            self._done += (now - self._at) * self._rate()
            self.busy += (now - self._at) * len(self._running)
        self._at = now

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            request = self._waiting.popleft()
            prompt = request.conversation.links[: request.turn.prompt]
            slot, shared = self._slot(prompt)
            slot.busy, slot.links = True, prompt
            request.slot = slot
            request.cached = request.conversation.ends[shared - 1] if shared else 0
            to_read = max(request.conversation.ends[request.turn.prompt - 1] - request.cached, 1)
            seconds = to_read / self.machine.reads + (0.0 if self.loaded else self.machine.load)
            self.loaded = LOADED
            heappush(self._running, (self._done + seconds, next(self._order), request))

    def _slot(self, prompt: tuple[int, ...]) -> tuple[_Slot, int]:
        """As Ollama 0.17.4 chooses: any two prompts have their first words in common, so empty slots come last."""
        free = (s for s in self._caches if not s.busy)
        best = max(free, key=lambda s: (common(s.links, prompt), bool(s.links)))
        return best, common(best.links, prompt)


@dataclass(slots=True)
class Outcome:
    first_tokens: list[float] = field(default_factory=list)  # seconds
    refused: int = 0
    read: int = 0  # tokens of prompts
    cached: int = 0  # of them, those that a slot still had
    imbalance: float = 0.0  # how far workers' use differs from the average, by it
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        ordered = sorted(self.first_tokens)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class Simulation:
    """headroom: requests that the gateway lets to workers at once, by their slots."""

    def __init__(self, workers: Sequence[Worker], policy: Policy, *, headroom: float = 1.0, queue: int = QUEUE) -> None:
        self._workers, self._policy, self._queue = tuple(workers), policy, queue
        self._most = max(1, int(headroom * sum(w.slots for w in workers)))
        self._flying = 0
        self._waiting: deque[Request] = deque()
        self._events: list[tuple[float, int, Request | tuple[Worker, int]]] = []
        self._order = count()
        self.outcome = Outcome()

    def run(self, conversations: Iterable[Conversation]) -> Outcome:
        for conversation in conversations:
            self._ask(conversation, 0, conversation.starts)
        now = 0.0
        while self._events:
            now, _, event = heappop(self._events)
            if isinstance(event, Request):
                self._arrive(event, now)
            elif event[0].version == event[1]:
                self._step(event[0], now)
        self.outcome.seconds = now
        used = [w.busy / w.slots for w in self._workers]
        self.outcome.imbalance = pstdev(used) / (fmean(used) or 1.0)
        return self.outcome

    def _ask(self, conversation: Conversation, number: int, when: float) -> None:
        if number < len(conversation.turns):
            turn = conversation.turns[number]
            request = Request(conversation, turn, number, when + turn.think, conversation.chain(turn.prompt))
            heappush(self._events, (request.asked, next(self._order), request))

    def _arrive(self, request: Request, now: float) -> None:
        if self._flying < self._most:
            self._send(request, now)
        elif len(self._waiting) < self._queue:
            self._waiting.append(request)
        else:
            self.outcome.refused += 1

    def _send(self, request: Request, now: float) -> None:
        self._flying += 1
        worker = self._policy.choose(self._workers, request)
        worker.add(request, now)
        self._schedule(worker)

    def _schedule(self, worker: Worker) -> None:
        worker.version += 1
        when = worker.next()
        if when is not None:
            heappush(self._events, (when, next(self._order), (worker, worker.version)))

    def _step(self, worker: Worker, now: float) -> None:
        request, ended = worker.step(now)
        if ended:
            self._flying -= 1
            outcome = self.outcome
            assert request.first is not None
            outcome.first_tokens.append(request.first - request.asked)
            outcome.read += request.conversation.ends[request.turn.prompt - 1]
            outcome.cached += request.cached
            self._ask(request.conversation, request.number + 1, now)
        self._schedule(worker)
        while ended and self._waiting and self._flying < self._most:
            waiting = self._waiting.popleft()
            if now - waiting.asked > PATIENCE:
                self.outcome.refused += 1
            else:
                self._send(waiting, now)
