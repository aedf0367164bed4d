"""Lets requests run: within their user's limits at once, and when a slot of the model is free.

Requests beyond the slots wait here rather than in an engine, where whoever came first goes first. With a free slot and
nobody waiting, this is a few additions and no change of task.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from cluster_ai.gateway.admission.account import Account, Used
from cluster_ai.gateway.admission.people import People, Person
from cluster_ai.gateway.admission.queue import FairQueue, FullError, Ticket
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.metering import Usage
from cluster_ai.settings import LimitSettings

_WEIGHT = 0.1  # of the newest request in the mean time that a slot is held
_LONGEST_ADVICE = 120  # seconds in Retry-After


class Slotted(Protocol):
    @property
    def slots(self) -> int: ...


class Asking(Protocol):
    """Of a call: its model, canonical."""

    @property
    def model(self) -> str: ...


class Asked(Protocol):
    """Of a trace. usage: what an engine told at the end; queued: seconds, set here; headers: to be on the answer."""

    user: User
    usage: Usage | None
    queued: float
    headers: list[tuple[bytes, bytes]]


class Watcher(Protocol):
    """Is told what the gate does, for metrics."""

    def queued(self, model: str, seconds: float) -> None: ...

    def refused(self, reason: str) -> None: ...


class _Line:
    """One model's slots, and who waits for them."""

    __slots__ = ("able", "awaited", "capacity", "held", "mean", "queue", "running")

    def __init__(self, limit: int) -> None:
        self.able: tuple[Slotted, ...] | None = None
        self.capacity = 0
        self.awaited = False  # nobody is able now, but somebody will be in a moment
        self.running = 0
        self.held: dict[str, int] = {}  # by owner
        self.queue: FairQueue[asyncio.Future[None]] = FairQueue(limit)
        self.mean = 1.0  # seconds that a slot is held

    def see(self, able: tuple[Slotted, ...]) -> None:
        if able is not self.able:
            self.able, self.capacity = able, sum(worker.slots for worker in able)

    def free(self) -> bool:
        """Without a worker, and none to come, there is nothing to wait for: the relay says so."""
        return self.running < self.capacity or not (self.capacity or self.awaited)

    def take(self, owner: str) -> None:
        self.running += 1
        self.held[owner] = self.held.get(owner, 0) + 1

    def leave(self, owner: str, seconds: float) -> None:
        self.running -= 1
        self.mean += _WEIGHT * (seconds - self.mean)
        left = self.held[owner] - 1
        if left:
            self.held[owner] = left
        else:
            del self.held[owner]

    def advice(self) -> int:
        """Seconds after which a place may be free."""
        wait = self.mean * (len(self.queue) + 1) / max(self.capacity, 1)
        return min(max(math.ceil(wait), 1), _LONGEST_ADVICE)


class Gate:
    """able: the workers that have a model now; the same tuple while nothing has changed.

    awaited: whether one that has it is away for a moment only, so that requests had better wait.
    """

    def __init__(
        self,
        limits: LimitSettings,
        able: Callable[[str], tuple[Slotted, ...]],
        awaited: Callable[[str], bool],
        account: Account,
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._able, self._awaited = limits, able, awaited
        self._account, self._watcher, self._clock = account, watcher, clock
        of_each = Limits(limits.requests_per_minute, limits.tokens_per_minute, limits.max_concurrent)
        self._people = People(of_each, clock)
        self._lines: dict[str, _Line] = {}

    def admitted(self, call: Asking, trace: Asked) -> Place:
        """`async with` it around all that an engine does for the request. Entering raises Refusal: 429 or 503.

        What is in trace.usage at the end goes to the user's account.
        """
        return Place(self, call.model, trace)

    def waiting(self) -> dict[str, int]:
        """How many wait, by model that was ever asked for."""
        return {model: len(line.queue) for model, line in self._lines.items()}

    def under_way(self) -> dict[str, int]:
        """How many have a slot or wait for one, by model that was ever asked for."""
        return {model: line.running + len(line.queue) for model, line in self._lines.items()}

    def changed(self) -> None:
        """Workers came or went: maybe someone needn't wait any more."""
        for model, line in self._lines.items():
            if line.queue:
                self._see(line, model)
                self._pump(line)

    def _see(self, line: _Line, model: str) -> None:
        line.see(self._able(model))
        if not line.capacity:
            line.awaited = self._awaited(model)

    def _line(self, model: str) -> _Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line(self._limits.queue)
        return line

    @staticmethod
    def _pump(line: _Line) -> None:
        while line.queue and line.free():
            ticket = line.queue.take(line.held)
            if not ticket.holder.done():  # else its client has just left
                line.take(ticket.owner)
                ticket.holder.set_result(None)

    async def _wait(self, line: _Line, owner: str, priority: int) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        ticket = Ticket(owner, priority, turn)
        try:
            out = line.queue.put(ticket)
        except FullError:
            raise self._full(line) from None
        if out is not None and not out.holder.done():
            out.holder.set_exception(self._full(line))
        limit = loop.call_later(self._limits.max_wait, self._expired, line, ticket)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(KeyError, ValueError):  # it may have been taken in the same moment
                    line.queue.remove(ticket)
            elif turn.exception() is None:  # its turn came in the same moment
                line.leave(owner, line.mean)
                self._pump(line)
            raise
        finally:
            limit.cancel()

    def _expired(self, line: _Line, ticket: Ticket[asyncio.Future[None]]) -> None:
        if not ticket.holder.done():
            line.queue.remove(ticket)
            text = f"no slot of the model became free within {self._limits.max_wait:g} s; try again later"
            self._watcher.refused("queue_timeout")
            ticket.holder.set_exception(Refusal(503, "queue_timeout", text, [_retry(line)]))

    def _full(self, line: _Line) -> Refusal:
        self._watcher.refused("queue_full")
        text = "too many requests wait for this model; try again later"
        return Refusal(503, "queue_full", text, [_retry(line)])


class Place:
    """A slot of a model, for as long as a request has it."""

    __slots__ = ("_gate", "_line", "_model", "_owner", "_person", "_since", "_trace")

    def __init__(self, gate: Gate, model: str, trace: Asked) -> None:
        self._gate, self._model, self._trace = gate, model, trace
        user = trace.user
        self._owner = f"{user.name}@{user.source}" if user.source else user.name
        self._person: Person | None = None
        self._line = gate._line(model)
        self._since = 0.0

    async def __aenter__(self) -> None:
        gate, line, trace = self._gate, self._line, self._trace
        person = gate._people.find(trace.user)
        now = gate._clock()
        if person is not None:
            try:
                person.enter(now)
            except Refusal:
                gate._watcher.refused("user_limit")
                raise
            self._person = person
            trace.headers += person.headers(now)
        gate._see(line, self._model)
        if line.free() and not line.queue:
            line.take(self._owner)
            self._since = now
            gate._watcher.queued(self._model, 0.0)
            return
        try:
            await gate._wait(line, self._owner, trace.user.priority)
        except BaseException:
            if person is not None:
                person.leave(0, gate._clock())
            raise
        finally:
            self._since = gate._clock()
            trace.queued = self._since - now
            gate._watcher.queued(self._model, trace.queued)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate, line, usage = self._gate, self._line, self._trace.usage
        now = gate._clock()
        seconds = now - self._since
        line.leave(self._owner, seconds)
        prompt, tokens = (usage.prompt_tokens, usage.tokens) if usage is not None else (0, 0)
        if self._person is not None:
            self._person.leave(prompt + tokens, now)
        gate._account.add(self._trace.user.name, self._model, Used(1, prompt, tokens, seconds))
        if line.queue:
            gate._see(line, self._model)
            gate._pump(line)


def _retry(line: _Line) -> tuple[bytes, bytes]:
    return (b"retry-after", b"%d" % line.advice())
