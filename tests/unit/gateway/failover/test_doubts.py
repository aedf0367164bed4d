"""What the fleet makes of doubts about a worker: who is asked, and what it says of itself."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

from cluster_ai.engine.client import EngineState, parse_loaded, parse_present
from cluster_ai.gateway.failover import breaker, pace, processor
from cluster_ai.gateway.failover.watch import TICK, StallWatch
from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.flight import Flight
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.metering import Usage
from cluster_ai.settings import GatewaySettings, Upstream

MODEL = "m:latest"


def engine(on_cards: int) -> EngineState:
    present = parse_present({"models": [{"name": "m", "size": 100}]})
    return EngineState("0.17.4", present, parse_loaded({"models": [{"name": "m", "size": 100, "size_vram": on_cards}]}))


def fleet(*names: str, slots: int = 4) -> Fleet:
    upstreams = tuple(Upstream(n, "http://x", ("M",), slots, 1, on_gpu=("M",)) for n in names)
    made = Fleet(GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", upstreams, {"M": 512}))
    for worker in made.workers.values():
        made.answered(worker, engine(100))
    return made


def able(made: Fleet) -> list[str]:
    return [w.name for w in made.able(MODEL)]


def test_a_worker_whose_model_left_its_card_is_not_asked_until_it_is_there_again() -> None:
    made = fleet("a", "b")
    made.answered(made.workers["a"], engine(0))
    assert able(made) == ["b"]
    assert made.workers["a"].state is State.ACTIVE
    assert made.workers["a"].reason == "m:latest fell back to the CPU: 0 % of it is on the card"
    made.answered(made.workers["a"], engine(100))
    assert able(made) == ["a", "b"]
    assert made.workers["a"].reason == ""


def test_the_only_one_that_has_a_model_is_asked_all_the_same() -> None:
    made = fleet("a", "b")
    made.answered(made.workers["a"], engine(0))
    made.failed(made.workers["b"], "refused", 0.0, certain=True)
    assert able(made) == ["a"]
    assert made.workers["a"].reason


def test_a_model_that_was_placed_on_the_cpu_may_be_there() -> None:
    made = fleet("a", "b")
    made.workers["a"].on_cards = frozenset()
    made.answered(made.workers["a"], engine(0))
    assert able(made) == ["a", "b"]


def test_answers_that_became_slow_are_noticed() -> None:
    made = fleet("a", "b")
    usage = Usage(prompt_tokens=1, tokens=100, run=1.0, load=0.0, eval=1.0)
    for _ in range(processor.KNOWN):
        made.measured(made.workers["a"], MODEL, usage)
    assert able(made) == ["a", "b"]
    for _ in range(processor.ANSWERS):
        made.measured(made.workers["a"], MODEL, replace(usage, eval=10.0))
    assert able(made) == ["b"]
    assert "slower" in made.workers["a"].reason


async def test_a_worker_that_is_back_is_given_one_slot_after_the_other() -> None:
    made = fleet("a", "b")
    a, b = made.workers.values()
    made.failed(a, "refused", 0.0, certain=True)
    made.answered(a, engine(100))
    assert a.back is not None
    now = a.back
    assert made.admitted([a, b], now) == [a, b]
    _fly(a, 1)
    assert made.admitted([a, b], now) == [b]
    assert made.admitted([a], now) == [a]  # nobody else: it needn't be spared
    assert made.admitted([a, b], now + breaker.RAMP / 2) == [a, b]
    made.settle(a, now + breaker.RAMP)
    _fly(a, 10)
    assert made.admitted([a, b], now + breaker.RAMP) == [a, b]


def test_a_worker_that_failed_at_requests_and_was_restarted_is_trusted_again() -> None:
    made = fleet("a", "b")
    a, b = made.workers.values()
    for _ in range(breaker.FAULTS):
        made.blamed(a, "it answered 500", 0.0)
    assert made.admitted([a, b], 0.0) == [b]
    assert a.reason == "requests fail there: it answered 500"
    made.failed(a, "refused", 1.0, certain=True)
    made.answered(a, engine(100))
    assert a.reason == ""
    assert made.admitted([a, b], 1.0) == [a, b]


def _fly(worker: Worker, count: int) -> None:
    for _ in range(count):
        worker.flights.add(Flight(_task(), 0.0))


def _task() -> asyncio.Task[None]:
    return asyncio.ensure_future(asyncio.sleep(0))


class _Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


class _Streams:
    """A worker with one stream, and the watch over it, on a clock of its own."""

    def __init__(self, *others: str) -> None:
        self.fleet = fleet("a", *others)
        self.worker, self.log = self.fleet.workers["a"], io.StringIO()
        self.flight = Flight(_task(), 0.0, MODEL, 100, streams=True)
        self.connection = self.flight.response = _Connection()
        self.worker.flights.add(self.flight)
        self._watch, self._now = StallWatch(self.fleet, Log(self.log)), 0.0

    def pass_(self, seconds: float, pieces: int = 0) -> None:
        for _ in range(round(seconds / TICK)):
            self.flight.pieces += pieces
            self._now += TICK
            self._watch.sweep(self._now)


async def test_a_stream_that_falls_silent_is_given_up() -> None:
    it = _Streams("b")
    it.pass_(5, pieces=10)
    it.pass_(pace.FLOOR)
    assert not it.connection.closed
    it.pass_(2 * TICK)
    assert it.connection.closed
    assert it.worker.stalls == 1
    assert "nothing came" in it.flight.lost
    assert json.loads(it.log.getvalue())["event"] == "stall"


async def test_a_slow_model_is_given_its_time() -> None:
    it = _Streams("b")
    for _ in range(20):
        it.pass_(10)
        it.pass_(TICK, pieces=1)
    it.pass_(30)
    assert not it.connection.closed
    it.pass_(2)
    assert it.connection.closed


async def test_a_client_that_reads_slowly_is_no_stall() -> None:
    it = _Streams("b")
    it.pass_(5, pieces=10)
    it.flight.waiting = False
    it.pass_(10 * pace.FLOOR)
    assert not it.connection.closed


async def test_where_nobody_else_could_go_on_it_is_waited_longer() -> None:
    it = _Streams()
    it.pass_(5, pieces=10)
    it.pass_(pace.FLOOR * (pace.PATIENCE - 1))
    assert not it.connection.closed
    it.pass_(pace.FLOOR + 2 * TICK)
    assert it.connection.closed


async def test_a_gateway_that_was_held_up_blames_nobody() -> None:
    it = _Streams("b")
    it.pass_(5, pieces=10)
    it._watch.sweep(10_000.0)
    assert not it.connection.closed
