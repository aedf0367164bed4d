from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.rollout.outages import NOTICED, outages
from cluster_ai.rollout.plan import HostPlan, Plan, UnitChange
from cluster_ai.rollout.waves import Wave

AWAY = "who is switched takes no new requests meanwhile, and finishes those that run"


def host(name: str, *units: UnitChange, old: str | None = "a", head: bool = False) -> HostPlan:
    return HostPlan(name, name, ("head",) if head else ("worker",), old, "b", units=units)


def test_what_restarts_on_the_head_is_told_by_what_people_notice() -> None:
    units = [UnitChange(unit, "restart", "x") for unit in (layout.SCHEDULER, layout.PROMETHEUS)]
    plan = Plan("c", (host("h", *units, head=True),), (Wave(("h",), "head"),), ())
    assert outages(plan) == ((NOTICED[layout.SCHEDULER], NOTICED[layout.PROMETHEUS]),)


def test_a_unit_that_was_down_is_missed_by_nobody() -> None:
    units = [UnitChange(layout.SCHEDULER, "start", "is failed (failed)")]
    assert outages(Plan("c", (host("h", *units, head=True),), (Wave(("h",), "head"),), ())) == ((),)


def test_models_without_another_replica_are_named_in_their_wave() -> None:
    waves = (Wave(("w1",), "rolling"), Wave(("w2",), "rolling"), Wave(("w3",), "rolling"))
    plan = Plan("c", (host("w1"), host("w2"), host("w3")), waves, (), {0: ("m",), 2: ("m", "n")})
    assert outages(plan) == (
        ("model m is unavailable for about the time of a switch: no other worker has a replica", AWAY),
        (AWAY,),
        ("models m, n are unavailable for about the time of a switch: no other worker has a replica", AWAY),
    )


def test_hosts_that_are_new_take_nothing_away() -> None:
    units = [UnitChange(layout.SCHEDULER, "start", "new here")]
    plan = Plan("c", (host("h", *units, old=None, head=True), host("w", old=None)), (Wave(("h", "w"), "first"),), ())
    assert outages(plan) == ((),)


@given(st.lists(st.lists(st.sampled_from(["w1", "w2", "w3"]), min_size=1, unique=True), max_size=4))
def test_every_wave_has_its_sentences(groups: list[list[str]]) -> None:
    waves = tuple(Wave(tuple(group), "rolling") for group in groups)
    told = outages(Plan("c", tuple(host(name) for name in ("w1", "w2", "w3")), waves, ()))
    assert told == tuple((AWAY,) for _ in waves)
