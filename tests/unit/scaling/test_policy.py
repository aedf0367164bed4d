from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.scaling.policy import Decision, Load, Policy, Scaler, Window

MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)
POLICY = Policy(min=1, max=4, in_flight=2.0, cool_down=300.0)


def decided(load: Load, policy: Policy = POLICY, at: datetime = MONDAY) -> Decision:
    return Scaler(policy).decide(load, at)


@pytest.mark.parametrize(("in_flight", "replicas"), [(0, 1), (2, 1), (2.1, 1), (3, 2), (7.5, 4), (40, 4)])
def test_each_replica_gets_its_share_of_the_requests_between_the_least_and_the_most(
    in_flight: float, replicas: int
) -> None:
    assert decided(Load(1, in_flight)).replicas == replicas


def test_the_reason_has_the_numbers() -> None:
    assert decided(Load(1, 5)) == Decision(3, "5 requests at once, 2 a replica")
    assert decided(Load(1, 40)).reason == "40 requests at once, 2 a replica, but 4 is the most"


def test_a_forecast_counts_before_its_requests_are_there() -> None:
    assert decided(Load(1, 1, forecast=6)) == Decision(3, "a forecast of 6 requests at once, 2 a replica")
    assert decided(Load(1, 1, forecast=0.2)).replicas == 1


def test_requests_that_wait_too_long_ask_for_one_more() -> None:
    policy = Policy(1, 4, 2.0, queue_time=5.0)
    assert decided(Load(2, 4, queue_time=9), policy) == Decision(3, "requests wait 9 s, at most 5 s are meant")
    assert decided(Load(2, 4, queue_time=4), policy).replicas == 2


def test_it_goes_down_only_when_nothing_more_was_wanted_during_the_cool_down() -> None:
    scaler, later = Scaler(POLICY), MONDAY + timedelta(seconds=200)
    assert scaler.decide(Load(1, 6), MONDAY).replicas == 3
    assert scaler.decide(Load(3, 0), later) == Decision(3, "1 at least, but 3 were wanted within 300 s")
    assert scaler.decide(Load(3, 0), MONDAY + timedelta(seconds=301)).replicas == 1


def test_one_that_begins_anew_takes_away_nothing_before_the_cool_down_is_over() -> None:
    scaler = Scaler(POLICY)
    assert scaler.decide(Load(3, 0), MONDAY) == Decision(3, "1 at least, but 3 were wanted within 300 s")
    assert scaler.decide(Load(3, 0), MONDAY + timedelta(seconds=301)).replicas == 1
    assert decided(Load(6, 0)).replicas == POLICY.max


def test_a_model_that_nobody_asks_for_leaves_memory_and_is_back_with_the_first_request() -> None:
    policy = Policy(1, 4, 2.0, cool_down=0.0, idle=600.0)
    assert decided(Load(1, 0, idle=599), policy).replicas == 1
    assert decided(Load(1, 0, idle=600), policy) == Decision(0, "no request for 600 s")
    assert decided(Load(0, 0, idle=0), policy).replicas == 0
    assert decided(Load(0, 1), policy).replicas == 1
    assert decided(Load(0, 0, idle=900, forecast=3), policy).replicas == 2


def test_a_schedule_is_kept_whoever_asks() -> None:
    office = Window(frozenset(range(5)), 8 * 60, 18 * 60, 3)
    policy = Policy(1, 4, 2.0, cool_down=0.0, idle=600.0, schedule=(office,))
    assert decided(Load(1, 0, idle=9999), policy) == Decision(3, "3 by schedule")
    assert decided(Load(3, 0, idle=9999), policy, MONDAY.replace(hour=18)).replicas == 0
    assert decided(Load(3, 0, idle=9999), policy, MONDAY + timedelta(days=5)).replicas == 0


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    night = Window(frozenset({0}), 22 * 60, 6 * 60, 1)
    assert [night.holds(MONDAY.replace(hour=hour)) for hour in (5, 21, 22, 23)] == [False, False, True, True]
    assert [night.holds(MONDAY.replace(hour=hour) + timedelta(days=1)) for hour in (0, 5, 6, 22)] == [
        *(True, True),
        *(False, False),
    ]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000), st.none() | st.floats(0, 100)), min_size=1),
    st.integers(0, 4),
    st.integers(0, 8),
)
def test_whatever_is_asked_the_number_stays_within_its_bounds(
    asked: list[tuple[float, float, float | None]], least: int, more: int
) -> None:
    policy = Policy(least, least + more, 2.0, queue_time=10.0, cool_down=60.0)
    scaler, replicas = Scaler(policy), least
    for step, (in_flight, queue_time, forecast) in enumerate(asked):
        at = MONDAY + timedelta(seconds=15 * step)
        replicas = scaler.decide(Load(replicas, in_flight, queue_time, forecast=forecast), at).replicas
        assert least <= replicas <= max(least + more, least)
