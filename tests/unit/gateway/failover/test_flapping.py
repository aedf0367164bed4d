"""Workers that come and go: how long they are kept out, and what others see of that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.engine.client import EngineState, parse_present
from cluster_ai.gateway.failover.flapping import FREE, LONGEST, STEADY, Flapping
from cluster_ai.gateway.fleet import Cordon, Fleet, State, Worker
from cluster_ai.settings import GatewaySettings, Upstream

ENGINE = EngineState("0.17.4", parse_present({"models": [{"name": "m", "size": 1}]}), ())
BIGGER = EngineState("0.17.4", parse_present({"models": [{"name": n, "size": 1} for n in ("m", "alone")]}), ())


class Site:
    """Two workers, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        upstreams = tuple(Upstream(n, "http://x", ("m",), 1, 0) for n in ("a", "b"))
        settings = GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", upstreams, {"m": 512})
        self.fleet = Fleet(settings, clock=lambda: self.now)
        self.a, self.b = self.fleet.workers.values()
        self.checked()

    def checked(self, engine: EngineState = ENGINE) -> None:
        for worker in (self.a, self.b):
            self.fleet.answered(worker, engine if worker is self.a else ENGINE)

    def falls(self, times: int, engine: EngineState = ENGINE) -> None:
        for _ in range(times):
            self.now += 5
            self.fleet.failed(self.a, "connection refused", self.now, certain=True)
            self.now += 5
            self.checked(engine)

    def able(self, model: str = "m:latest") -> list[Worker]:
        return list(self.fleet.able(model))


def test_after_some_falls_it_is_back_at_once_and_after_one_more_it_is_kept_out_with_a_reason() -> None:
    site = Site()
    site.falls(FREE)
    assert (site.a.state, site.able()) == (State.ACTIVE, [site.a, site.b])
    site.falls(1)
    assert (site.a.state, site.able()) == (State.DOWN, [site.b])
    assert site.a.reason.startswith("answers again, but went down 4 times in a row; kept out for 30 s, until ")
    site.now += 29
    site.checked()
    assert site.able() == [site.b]
    site.now += 1
    site.checked()
    assert (site.a.state, site.a.reason, site.able()) == (State.ACTIVE, "", [site.a, site.b])
    assert site.a.back == site.now  # and is taken in gently
    site.falls(1)
    assert "went down 5 times in a row; kept out for 60 s" in site.a.reason


def test_who_was_steady_for_minutes_begins_anew() -> None:
    site = Site()
    site.falls(FREE + 1)
    site.now += 30 + STEADY
    site.checked()
    site.falls(FREE)
    assert site.a.state is State.ACTIVE


def test_what_nobody_else_has_is_asked_of_it_all_the_same() -> None:
    site = Site()
    site.falls(FREE + 1, BIGGER)
    assert (site.a.state, site.able("alone:latest"), site.able()) == (State.ACTIVE, [site.a], [site.b])
    assert site.a.reason.endswith(", but for what nobody else has")
    site.fleet.answered(site.b, BIGGER)  # another stands in
    assert (site.a.state, site.able("alone:latest")) == (State.DOWN, [site.b])


def test_where_all_come_and_go_all_are_asked() -> None:
    site = Site()
    for _ in range(FREE + 1):
        site.fleet.failed(site.b, "connection refused", site.now, certain=True)
        site.falls(1)
    assert site.able() == [site.a, site.b]
    assert all(worker.kept_out and worker.state is State.ACTIVE for worker in site.able())


def test_whoever_puts_it_to_work_again_has_seen_to_it() -> None:
    site = Site()
    site.falls(FREE + 1)
    site.fleet.cordon(site.a, Cordon("rollout 7: switch", 0, drained=True))
    site.fleet.cordon(site.a, None)
    assert (site.a.state, site.able()) == (State.ACTIVE, [site.a, site.b])
    site.falls(FREE)
    assert site.a.state is State.ACTIVE


def test_going_down_while_it_is_drained_is_meant_and_does_not_count() -> None:
    site = Site()
    site.fleet.cordon(site.a, Cordon("new fans", 0, drained=True))
    site.falls(5)
    site.fleet.cordon(site.a, None)
    assert site.a.state is State.ACTIVE


@given(st.lists(st.tuples(st.integers(0, int(2 * STEADY)), st.integers(0, 100)), max_size=20))
def test_pauses_grow_while_it_falls_are_bounded_and_end(falls: list[tuple[int, int]]) -> None:
    """falls: seconds that it was up, and then down."""
    flapping, now, before = Flapping(), 1000.0, 0.0
    for up, down in falls:
        now += up
        steady = now - flapping.until >= STEADY
        flapping = flapping.went(now)
        now += down
        flapping = flapping.came(now)
        pause = flapping.left(now)
        assert pause <= LONGEST
        assert pause == 0 if flapping.times <= FREE else pause > 0
        assert steady or pause >= before
        assert flapping.left(now + pause) == 0
        before = pause
