"""Which workers a change of a model goes to."""

from __future__ import annotations

import time

import pytest

from cluster_ai.engine.client import EngineState, parse_present
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.fleet import Cordon, Fleet
from cluster_ai.gateway.models.targets import Targets, for_new, for_present
from cluster_ai.settings import Upstream
from tests.rig.cluster import gateway_settings


@pytest.fixture
def fleet() -> Fleet:
    """placed is to be on a and b; free is on b and c; all are well."""
    placed = {"a": ("placed",), "b": ("placed",), "c": ()}
    fleet = Fleet(gateway_settings(upstreams=tuple(Upstream(n, "http://h", m, 1, 0) for n, m in placed.items())))
    for name, models in {"a": ["placed"], "b": ["placed", "free"], "c": ["free"]}.items():
        _has(fleet, name, *models)
    return fleet


def _has(fleet: Fleet, name: str, *models: str) -> None:
    tags = {"models": [{"name": f"{m}:latest"} for m in models]}
    fleet.answered(fleet.workers[name], EngineState("0.17.4", parse_present(tags), ()))


def _down(fleet: Fleet, *names: str) -> None:
    for name in names:
        fleet.failed(fleet.workers[name], "refused", time.monotonic(), certain=True)


def names(targets: Targets) -> list[str]:
    return [w.name for w in targets.workers]


def test_a_model_of_the_configuration_goes_where_it_is_placed(fleet: Fleet) -> None:
    assert names(for_new(fleet, "placed:latest", "")) == ["a", "b"]


def test_any_other_model_goes_where_its_base_is_or_to_every_worker(fleet: Fleet) -> None:
    assert names(for_new(fleet, "new:latest", "")) == ["a", "b", "c"]
    assert names(for_new(fleet, "new:latest", "", "free:latest")) == ["b", "c"]
    assert names(for_new(fleet, "new:latest", "", "nowhere:latest")) == ["a", "b", "c"]


def test_a_client_may_choose_the_workers(fleet: Fleet) -> None:
    assert names(for_new(fleet, "placed:latest", "c, a,c")) == ["c", "a"]
    assert names(for_present(fleet, "free:latest", "c")) == ["c"]
    with pytest.raises(Refusal, match="there is no worker 'z'") as caught:
        for_new(fleet, "new:latest", "a,z")
    assert caught.value.status == 404


def test_a_model_is_taken_from_all_that_have_it(fleet: Fleet) -> None:
    assert names(for_present(fleet, "free:latest", "")) == ["b", "c"]
    assert names(for_present(fleet, "nothing:latest", "")) == []


def test_a_worker_that_is_down_is_left_out_and_told_of(fleet: Fleet) -> None:
    _down(fleet, "b")
    assert for_new(fleet, "placed:latest", "").left_out == (("b", "refused"),)
    assert for_present(fleet, "free:latest", "").left_out == (("b", "refused"),)


def test_a_worker_that_is_being_drained_gets_nothing_new_but_what_it_has_can_be_deleted(fleet: Fleet) -> None:
    fleet.cordon(fleet.workers["b"], Cordon("new fans", 0, drained=True))
    assert names(for_new(fleet, "placed:latest", "")) == ["a"]
    assert names(for_present(fleet, "free:latest", "")) == ["b", "c"]


def test_nobody_who_can_be_reached_is_a_refusal_that_says_why(fleet: Fleet) -> None:
    _down(fleet, "a", "b")
    with pytest.raises(Refusal, match="a: refused; b: refused") as caught:
        for_new(fleet, "placed:latest", "")
    assert caught.value.status == 503
    assert dict(caught.value.headers)[b"retry-after"]
