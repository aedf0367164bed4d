"""Requests run when their user may and a slot is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster_ai.gateway.admission.account import Account
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.metering import Usage
from cluster_ai.gateway.trace import Trace
from cluster_ai.settings import LimitSettings

ANNA, BEN = User("anna"), User("ben")


@dataclass
class Worker:
    slots: int


@dataclass
class Call:
    model: str = "m"


@dataclass
class Site:
    """A gate before workers that a test changes, with a clock of its own."""

    gate: Gate
    workers: list[Worker]
    now: list[float]
    awaited: list[bool]
    refused: list[str] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)

    async def ask(self, user: User, **given: Any) -> Running:
        """A request, after it has run as far as it can."""
        one = Running(Trace("id", 0.0, user), **given)
        one.task = asyncio.create_task(one.run(self.gate))
        self.running.append(one)
        await settle()
        return one


@dataclass
class Running:
    trace: Trace
    model: str = "m"
    inside: bool = False
    end: asyncio.Event = field(default_factory=asyncio.Event)
    usage: Usage | None = None
    task: asyncio.Task[None] | None = None

    async def run(self, gate: Gate) -> None:
        async with gate.admitted(Call(self.model), self.trace):
            self.inside = True
            await self.end.wait()
            self.trace.usage = self.usage

    async def finish(self) -> None:
        self.end.set()
        assert self.task is not None
        await self.task
        await settle()

    @property
    def refusal(self) -> Refusal | None:
        assert self.task is not None
        error = self.task.exception() if self.task.done() else None
        assert error is None or isinstance(error, Refusal)
        return error


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def site(*slots: int, **limits: Any) -> AsyncIterator[Site]:
    workers, now, refused = [Worker(n) for n in slots], [0.0], list[str]()
    awaited = [False]

    class Watcher:
        def queued(self, model: str, seconds: float) -> None: ...

        def refused(self, reason: str) -> None:
            refused.append(reason)

    async with Account(None) as account:
        told = LimitSettings(**limits)
        gate = Gate(told, lambda _: tuple(workers), lambda _: awaited[0], account, Watcher(), lambda: now[0])
        here = Site(gate, workers, now, awaited, refused)
        yield here
        for one in here.running:
            if one.task is not None and not one.task.done():
                one.task.cancel()
        await asyncio.gather(*(one.task for one in here.running if one.task is not None), return_exceptions=True)


async def test_as_many_run_as_workers_have_slots_and_the_rest_wait_their_turn() -> None:
    async with site(1, 1) as here:
        one, two, three = [await here.ask(ANNA) for _ in range(3)]
        assert (one.inside, two.inside, three.inside) == (True, True, False)
        assert (here.gate.waiting(), here.gate.under_way()) == ({"m": 1}, {"m": 3})
        here.now[0] = 2.0
        await two.finish()
        assert three.inside
        assert three.trace.queued == 2.0
        assert (here.gate.waiting(), here.gate.under_way()) == ({"m": 0}, {"m": 2})


async def test_models_dont_wait_for_each_other() -> None:
    async with site(1) as here:
        await here.ask(ANNA)
        assert (await here.ask(ANNA, model="other")).inside


async def test_who_has_no_slot_goes_before_who_has_one() -> None:
    async with site(2) as here:
        first, _ = await here.ask(ANNA), await here.ask(ANNA)
        more, ben = await here.ask(ANNA), await here.ask(BEN)
        await first.finish()
        assert ben.inside
        assert not more.inside


async def test_requests_without_a_key_are_told_apart_by_address() -> None:
    async with site(2) as here:
        one, other = User("anonymous", source="10.0.0.1"), User("anonymous", source="10.0.0.2")
        first, _ = await here.ask(one), await here.ask(one)
        more, theirs = await here.ask(one), await here.ask(other)
        await first.finish()
        assert theirs.inside
        assert not more.inside


async def test_a_client_that_leaves_gives_up_its_place_at_once() -> None:
    async with site(1, queue=1) as here:
        first, waiting = await here.ask(ANNA), await here.ask(ANNA)
        assert waiting.task is not None
        waiting.task.cancel()
        await settle()
        assert here.gate.waiting() == {"m": 0}
        next_ = await here.ask(BEN)
        await first.finish()
        assert next_.inside


async def test_a_client_that_leaves_as_its_turn_comes_keeps_nobody_waiting() -> None:
    async with site(1) as here:
        first, second, third = [await here.ask(ANNA) for _ in range(3)]
        first.end.set()
        assert second.task is not None
        await asyncio.sleep(0)
        second.task.cancel()
        await settle()
        assert third.inside
        await third.finish()
        assert (await here.ask(BEN)).inside


async def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async with site(1, queue=0) as here:
        await here.ask(ANNA)
        refusal = (await here.ask(BEN)).refusal
        assert refusal is not None
        assert (refusal.status, refusal.code) == (503, "queue_full")
        assert int(dict(refusal.headers)[b"retry-after"]) >= 1
        assert here.refused == ["queue_full"]


async def test_who_floods_the_queue_gives_way_to_another_user() -> None:
    async with site(1, queue=2) as here:
        await here.ask(ANNA)
        one, two = await here.ask(ANNA), await here.ask(ANNA)
        assert (await here.ask(BEN)).refusal is None
        assert one.refusal is None
        assert two.refusal is not None


async def test_nobody_waits_longer_than_configured() -> None:
    async with site(1, max_wait=0.01) as here:
        await here.ask(ANNA)
        waiting = await here.ask(BEN)
        assert waiting.task is not None
        async with asyncio.timeout(30):
            await asyncio.wait([waiting.task])
        assert waiting.refusal is not None
        assert waiting.refusal.code == "queue_timeout"
        assert here.gate.waiting() == {"m": 0}


async def test_a_worker_that_joins_takes_from_the_queue() -> None:
    async with site(1) as here:
        _, waiting = await here.ask(ANNA), await here.ask(ANNA)
        here.workers.append(Worker(1))
        here.gate.changed()
        await settle()
        assert waiting.inside


async def test_where_no_worker_is_left_the_relay_answers_and_nobody_waits() -> None:
    async with site(1) as here:
        _, waiting = await here.ask(ANNA), await here.ask(ANNA)
        here.workers.clear()
        here.gate.changed()
        await settle()
        assert waiting.inside
        assert (await here.ask(BEN)).inside


async def test_while_the_only_worker_is_away_for_a_moment_requests_wait_for_it() -> None:
    async with site(1) as here:
        only = here.workers.pop()
        here.awaited[0] = True
        one, two = await here.ask(ANNA), await here.ask(BEN)
        assert (one.inside, two.inside) == (False, False)
        here.workers.append(only)
        here.gate.changed()
        await settle()
        assert (one.inside, two.inside) == (True, False)


async def test_who_waits_for_a_worker_that_doesnt_come_back_is_told_so() -> None:
    async with site(1) as here:
        here.workers.clear()
        here.awaited[0] = True
        waiting = await here.ask(ANNA)
        assert not waiting.inside
        here.awaited[0] = False
        here.gate.changed()
        await settle()
        assert waiting.inside  # to where the relay says that nobody is there


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"max_concurrent": 1}, "1 request at once"), ({"requests_per_minute": 1}, "1 request a minute")],
)
async def test_a_users_limits_are_theirs_alone(limits: dict[str, int], said: str) -> None:
    async with site(8, **limits) as here:
        assert (await here.ask(ANNA)).inside
        refusal = (await here.ask(ANNA)).refusal
        assert refusal is not None
        assert refusal.status == 429
        assert said in refusal.message
        assert b"retry-after" in dict(refusal.headers)
        assert (await here.ask(BEN)).inside
        assert here.refused == ["user_limit"]


async def test_tokens_are_charged_after_the_answer_and_come_back_with_time() -> None:
    async with site(8, tokens_per_minute=600) as here:
        one = await here.ask(ANNA, usage=Usage(500, 400, None, None, None))
        assert dict(one.trace.headers)[b"x-ratelimit-remaining-tokens"] == b"600"
        await one.finish()
        refusal = (await here.ask(ANNA)).refusal
        assert refusal is not None
        assert dict(refusal.headers)[b"retry-after"] == b"31"  # 301 tokens at 10 a second
        assert dict(refusal.headers)[b"x-ratelimit-reset-tokens"] == b"1m30s"
        here.now[0] = 31.0
        assert (await here.ask(ANNA)).inside


async def test_a_key_may_have_limits_of_its_own_or_none() -> None:
    async with site(8, max_concurrent=1) as here:
        free = User("free", limits=Limits(max_concurrent=0))
        two = User("two", limits=Limits(max_concurrent=2))
        assert [(await here.ask(free)).inside for _ in range(3)] == [True] * 3
        assert [(await here.ask(two)).inside for _ in range(3)] == [True, True, False]


async def test_what_waits_counts_as_one_at_once_until_it_leaves() -> None:
    async with site(1, max_concurrent=2) as here:
        _, waiting = await here.ask(ANNA), await here.ask(ANNA)
        assert (await here.ask(ANNA)).refusal is not None
        assert waiting.task is not None
        waiting.task.cancel()
        await settle()
        assert (await here.ask(ANNA)).refusal is None
