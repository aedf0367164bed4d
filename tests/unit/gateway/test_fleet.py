"""Workers' health, and who can answer."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from cluster_ai.cluster.membership import Membership
from cluster_ai.engine.client import EngineState, canonical, parse_loaded, parse_present
from cluster_ai.gateway.admission.account import Account
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.api import catalog
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.balancing.least_loaded import LeastLoaded
from cluster_ai.gateway.exposition import Exposition
from cluster_ai.gateway.fleet import Cordon, Fleet, Health, State
from cluster_ai.gateway.metering import Meter, Usage
from cluster_ai.metrics.names import METRICS
from cluster_ai.settings import GatewaySettings, LimitSettings, Upstream
from tests.unit.gateway.balancing.workers import Ask

UPSTREAMS = tuple(Upstream(n, "http://x", ("M",), 1, 0) for n in ("a", "b"))
SETTINGS = GatewaySettings("c", "h", 1, "least_loaded", (), "tls://s:1", UPSTREAMS, {"M": 512})


def engine(*models: str, version: str = "0.17.4", loaded: tuple[str, ...] = ()) -> EngineState:
    tags = {"models": [{"name": m, "size": 1, "modified_at": "2026-01-01T00:00:00Z"} for m in models]}
    return EngineState(version, parse_present(tags), parse_loaded({"models": [{"name": m} for m in loaded]}))


def test_one_timeout_is_forgiven_and_a_second_is_not() -> None:
    once = Health().succeeded().failed("slow", 1.0, certain=False)
    assert once.answered
    assert once.failed("slow", 2.0, certain=False) == Health(False, 2, "slow", 1.0)


def test_a_refused_connection_is_certain_and_a_success_forgets_all() -> None:
    down = Health().succeeded().failed("refused", 1.0, certain=True)
    assert not down.answered
    assert down.succeeded() == Health().succeeded()


def test_a_model_is_answered_by_active_workers_that_have_it() -> None:
    fleet = Fleet(SETTINGS)
    a, b = fleet.workers.values()
    assert a.state is State.JOINING
    assert fleet.able("m:latest") == ()
    fleet.answered(a, engine("m:latest"))
    fleet.answered(b, engine("m:latest", "other:latest"))
    assert fleet.able("m:latest") == (a, b)
    fleet.cordon(a, Cordon("new fans", 0, drained=True))
    assert (a.state, fleet.able("m:latest")) == (State.DRAINING, (b,))
    assert a.reason == "drained: new fans, since 1970-01-01T00:00:00Z"
    fleet.failed(a, "gone", 1.0, certain=True)
    assert a.reason == "gone; drained: new fans, since 1970-01-01T00:00:00Z"
    fleet.answered(a, engine("m:latest"))
    fleet.cordon(a, None)
    fleet.leaving(["b"])
    assert (b.state, fleet.able("m:latest")) == (State.DRAINING, (a,))
    fleet.leaving([])
    fleet.failed(b, "gone", 1.0, certain=True)
    assert (b.state, b.reason) == (State.DOWN, "gone")
    assert fleet.known("other:latest")  # it comes back with its worker
    with pytest.raises(Refusal, match="model 'X' not found"):
        fleet.must_know("x:latest", "X")


def test_what_another_gateway_has_under_way_on_a_worker_keeps_new_requests_from_it() -> None:
    fleet = Fleet(SETTINGS)
    a, b = fleet.workers.values()
    for busy, free in ((a, b), (b, a)):
        fleet.count({busy.name: 1, "unknown": 3})
        assert (busy.in_flight, free.in_flight) == (1, 0)
        policy = LeastLoaded()
        assert [policy.choose([a, b], Ask()) for _ in range(3)] == [free] * 3
    fleet.count({})
    assert (a.in_flight, b.in_flight) == (0, 0)


def test_lists_are_merged_over_workers() -> None:
    fleet = Fleet(SETTINGS)
    a, b = fleet.workers.values()
    assert catalog.version(fleet) is None
    fleet.answered(a, engine("m:latest", version="0.17.10", loaded=("m:latest",)))
    fleet.answered(b, engine("m:latest", "n:latest", version="0.17.9", loaded=("m:latest",)))
    assert [m["name"] for m in catalog.tags(fleet)["models"]] == ["m:latest", "n:latest"]
    assert [m["worker"] for m in catalog.ps(fleet)["models"]] == ["a", "b"]
    assert catalog.version(fleet) == "0.17.9"


@pytest.mark.parametrize(
    "name", ["Llama3", "llama3:latest", "library/llama3", "registry.ollama.ai/library/llama3:latest"]
)
def test_a_model_has_one_spelling(name: str) -> None:
    assert canonical(name) == "llama3:latest"
    assert canonical("host:5000/team/model") == "host:5000/team/model:latest"


@pytest.mark.parametrize("answer", [None, [], {"models": None}, {"models": [3, {"name": 4}, {}]}])
def test_a_strange_answer_has_no_models(answer: object) -> None:
    assert parse_present(answer) == ()


def test_what_prometheus_is_told_is_what_the_table_names() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    fleet = Fleet(SETTINGS)
    gate = Gate(LimitSettings(), fleet.able, fleet.awaited, Account(None), meter)
    registry.register(Exposition(fleet, Membership("tcp://127.0.0.1:9", None), meter, gate))
    told = {f"{f.name}_total" if f.type == "counter" else f.name: f.type for f in registry.collect()}
    assert told == {m.name: m.kind for m in METRICS}


def test_a_worker_that_was_just_lost_or_drained_is_awaited_for_a_while() -> None:
    fleet = Fleet(SETTINGS)
    a, b = fleet.workers.values()
    assert fleet.awaited("m:latest")  # nobody has looked at it yet
    fleet.answered(a, engine("m:latest"))
    fleet.answered(b, engine("other:latest"))
    now = time.monotonic()
    fleet.failed(a, "gone", now, certain=True)
    assert fleet.awaited("m:latest")
    assert not fleet.awaited("other:latest")
    assert not a.returns(now + 16)
    fleet.answered(a, engine("m:latest"))
    for cordon, awaited in (
        (Cordon("rollout", time.time(), drained=True), True),
        (Cordon("rollout", time.time() - 600, drained=True), False),
        (Cordon("broken fan", time.time(), drained=False), False),
    ):
        fleet.cordon(a, cordon)
        assert fleet.awaited("m:latest") is awaited


def test_one_may_ask_for_one_worker_and_is_told_why_it_cant_be() -> None:
    fleet = Fleet(SETTINGS)
    a, b = fleet.workers.values()
    fleet.answered(a, engine("m:latest"))
    fleet.answered(b, engine("other:latest"))
    assert fleet.asked("m:latest", "") == (a,)
    assert fleet.asked("m:latest", "a") == (a,)
    for model, name, status, words in (
        ("m:latest", "c", 404, "there is no worker 'c'"),
        ("m:latest", "b", 404, "doesn't have model 'm:latest'"),
        ("nothing", "a", 404, "doesn't have model 'nothing'"),
    ):
        with pytest.raises(Refusal, match=words) as caught:
            fleet.asked(model, name)
        assert caught.value.status == status
    fleet.failed(a, "gone", 1.0, certain=True)
    with pytest.raises(Refusal, match="worker 'a', asked for by x-cluster-worker, is down: gone") as caught:
        fleet.asked("m:latest", "a")
    assert caught.value.status == 503


def test_an_answer_tells_of_its_workers_speed_and_that_the_model_is_loaded() -> None:
    fleet = Fleet(SETTINGS)
    a, _ = fleet.workers.values()
    assert a.speed("m:latest") is None
    fleet.measured(a, "m:latest", Usage(10, 4, 1.0, 0.0, 0.1))  # too few tokens to go by
    assert (a.speed("m:latest"), "m:latest" in a.loaded) == (None, True)
    fleet.measured(a, "m:latest", Usage(10, 100, 1.0, 0.0, 2.0))
    assert a.speed("m:latest") == 50
    fleet.measured(a, "m:latest", Usage(10, 100, 1.0, 0.0, 1.0))
    assert a.speed("m:latest") == pytest.approx(60)
    fleet.measured(a, "m:latest", Usage(10, 100, None, None, None))  # OpenAI's answers have no times
    assert a.speed("m:latest") == pytest.approx(60)


def test_a_worker_that_was_away_is_measured_anew() -> None:
    fleet = Fleet(SETTINGS)
    a, _ = fleet.workers.values()
    fleet.answered(a, engine("m:latest"))
    fleet.measured(a, "m:latest", Usage(10, 100, 1.0, 0.0, 2.0))
    fleet.failed(a, "gone", 1.0, certain=True)
    fleet.answered(a, engine("m:latest"))
    assert a.speed("m:latest") is None


def test_whether_a_model_fits_is_told_by_what_is_loaded() -> None:
    for gpu, loaded_size, fits in ((0, 5, True), (0, 9, False), (1, 9, True)):
        upstream = Upstream("a", "http://x", ("M",), 1, gpu, 10)
        fleet = Fleet(replace(SETTINGS, upstreams=(upstream,)))
        (a,) = fleet.workers.values()
        assert a.room("m:latest") is None  # nobody has said how large it is
        entries = [{"name": "other", "size": loaded_size, "size_vram": 0}]
        present = parse_present({"models": [{"name": "m", "size": 3}]})
        fleet.answered(a, EngineState("0.17.4", present, parse_loaded({"models": entries})))
        assert a.room("m:latest") is fits
