from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.errors import HostError, RolloutError, UnavailableError
from cluster_ai.rollout.traffic import OWN, POLL, Seen, Traffic, lift


class Gateway:
    """Tells of one worker, w; each second of waiting does the next thing that was planned."""

    def __init__(self, **worker: Any) -> None:
        self.worker: dict[str, Any] = {"name": "w", "state": "active", "in_flight": 0, "cordon": None, **worker}
        self.status, self.now = 200, 0.0
        self.away: Exception | None = None
        self.plan: list[dict[str, Any]] = []
        self.posted: list[tuple[str, Any]] = []

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float = 10
    ) -> tuple[int, Any]:
        assert timeout <= 10
        if self.away:
            raise self.away
        if method == "GET":
            return self.status, {"workers": [self.worker]} if self.status == 200 else "no"
        what = path.removeprefix("/api/v1/cluster/workers/w/")
        self.posted.append((what, body))
        if what == "drain":
            assert body
            self.worker |= {"state": "draining", "cordon": {"reason": body["reason"], "tasks": 0, "results": 0}}
        else:
            self.worker |= {"state": "active", "cordon": None}
        return 200, self.worker

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.plan:
            self.worker |= self.plan.pop(0)

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.ask, "w", self.sleep, lambda: self.now)


def _cordon(reason: str = "", **more: Any) -> dict[str, Any]:
    return {"reason": reason, "tasks": 0, "results": 0, "untold": None, **more}


def test_a_drain_tells_that_a_rollout_wants_it() -> None:
    gateway = Gateway()
    assert gateway.traffic.drain("a new driver")
    assert gateway.traffic.drain("rollout 7: again")
    assert gateway.posted == [
        ("drain", {"reason": "rollout: a new driver"}),
        ("drain", {"reason": "rollout 7: again"}),
    ]


@pytest.mark.parametrize("state", ["joining", "down", "draining"])
def test_who_does_not_serve_is_not_drained(state: str) -> None:
    gateway = Gateway(state=state)
    assert not gateway.traffic.drain("x")
    assert not gateway.posted


def test_what_an_operator_drained_is_left_alone_and_what_a_dead_rollout_drained_is_taken_over() -> None:
    assert not Gateway(state="draining", cordon=_cordon("new fans")).traffic.drain("x")
    assert Gateway(state="draining", cordon=_cordon(f"{OWN} 3: workers")).traffic.drain("x")


@pytest.mark.parametrize("away", [UnavailableError("no"), HostError("no", where="head")])
def test_where_no_gateway_answers_nothing_is_drained_nor_waited_for_and_nothing_serves(away: Exception) -> None:
    gateway = Gateway(in_flight=3)
    gateway.away = away
    assert not gateway.traffic.drain("x")
    assert gateway.traffic.under_way(60) == 0
    assert gateway.now < 10
    assert not gateway.traffic.resume(5)


def test_a_worker_that_the_gateway_does_not_know_has_nothing_to_drain() -> None:
    gateway = Gateway(name="other")
    assert not gateway.traffic.drain("x")
    assert gateway.traffic.under_way(60) == 0


def test_a_gateway_that_refuses_is_an_error() -> None:
    gateway = Gateway()
    gateway.status = 401
    with pytest.raises(RolloutError, match="answers 401"):
        gateway.traffic.drain("x")


def test_requests_tasks_and_results_are_waited_for() -> None:
    gateway = Gateway(state="draining", in_flight=1, cordon=_cordon())
    gateway.plan = [{"in_flight": 0, "cordon": _cordon(tasks=1)}, {"cordon": _cordon(results=1)}, {"cordon": _cordon()}]
    assert gateway.traffic.under_way(60) == 0
    assert gateway.now == pytest.approx(3 * POLL)


def test_what_is_left_at_the_limit_is_told() -> None:
    gateway = Gateway(state="draining", in_flight=2, cordon=_cordon(tasks=3))
    assert gateway.traffic.under_way(4) == 5
    assert 4 <= gateway.now < 4 + POLL


def test_what_is_not_known_yet_is_waited_for_but_not_what_dask_cannot_be_told() -> None:
    unknown = _cordon(tasks=None, results=None)
    assert Seen.of({"state": "draining", "in_flight": 0, "cordon": unknown}).left
    assert not Seen.of({"state": "draining", "in_flight": 0, "cordon": unknown | {"untold": "it is away"}}).left


def test_an_older_gateway_tells_its_requests_only() -> None:
    assert Seen.of({"state": "active", "in_flight": 4}).left == 4


def test_a_worker_is_resumed_when_it_is_active_again() -> None:
    gateway = Gateway(state="draining", cordon=_cordon(OWN))
    assert gateway.traffic.resume(5)
    assert gateway.posted == [("resume", None)]


def test_what_an_operator_drains_during_a_rollout_stays_drained_after_it() -> None:
    gateway = Gateway(state="draining", cordon=_cordon("new fans"))
    assert gateway.traffic.resume(5)
    assert not gateway.posted


@pytest.mark.parametrize(("reason", "left"), [("rollout 7: switch", []), ("new fans", ["w"])])
def test_what_a_dead_rollout_drained_is_lifted_and_what_an_operator_drained_stays(reason: str, left: list[str]) -> None:
    gateway = Gateway(state="draining", cordon=_cordon(reason))
    lift(gateway.ask)
    assert [gateway.worker["name"]] * (gateway.worker["state"] == "draining") == left


def test_where_no_gateway_answers_nothing_can_be_lifted() -> None:
    gateway = Gateway()
    gateway.away = UnavailableError("no", where="gateway")
    lift(gateway.ask)
