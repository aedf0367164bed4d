"""What is done when workers are lost, and when they are back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.placement.memory import Need
from cluster_ai.placement.repair import LOAD, SETTLED, Fleet, Repairs, Short, StandIn, repair
from cluster_ai.placement.room import Budget, Held, Processor, Seat, Wanted

GB = 10**9
NOW = 1_000_000.0


def seat(name: str, *models: str, ram: int = 16, gpu: int = 0, disk: Iterable[str] = (), closed: str = "") -> Seat:
    """models: what it holds, 4 GB each, and has on its disk; disk: what it has there besides."""
    held = dict.fromkeys(models, Held("cpu", 4 * GB))
    return Seat(name, Budget(gpu * GB, ram * GB), held, frozenset((*models, *disk)), closed)


def wanted(name: str, memory: int = 4, replicas: int | None = 1) -> Wanted:
    return Wanted(name, Need(memory * GB, ""), replicas)


def fleet(seats: Sequence[Seat], lost: str = "", placed: dict[str, dict[str, Processor]] | None = None) -> Fleet:
    """As placed: what the seats hold."""
    found: dict[str, dict[str, Processor]] = {}
    for it in seats:
        for name in it.held:
            found.setdefault(name, {})[it.worker] = "cpu"
    gone = lost.split()
    loaded = {name: frozenset(where) - set(gone) for name, where in found.items()}
    closed = [dataclasses.replace(it, closed="it is down") if it.worker in gone else it for it in seats]
    return Fleet(closed, placed or found, dict.fromkeys(gone, "can't connect"), loaded)


def stand_in(worker: str, instead_of: str, since: float = NOW - SETTLED, *, fetched: bool = False) -> StandIn:
    return StandIn("m", worker, instead_of, "cpu", fetched, since)


def done(plan: Repairs) -> list[tuple[str, str, str, str]]:
    return [(it.do, it.model, it.worker, it.instead_of) for it in plan.steps]


def test_while_nobody_is_lost_nothing_is_done() -> None:
    assert repair([wanted("m")], fleet([seat("a", "m"), seat("b")]), [], NOW) == Repairs()


def test_who_has_it_on_disk_takes_over_before_one_with_a_gpu() -> None:
    plan = repair([wanted("m")], fleet([seat("a", "m"), seat("b", gpu=8), seat("c", disk=["m"])], "a"), [], NOW)
    assert done(plan) == [("load", "m", "c", "a")]
    assert plan.steps[0].reason == "a is lost (can't connect); here it fits in RAM: 16 GB in RAM are free"


def test_who_has_not_gets_it_first_on_a_gpu_where_it_fits() -> None:
    plan = repair([wanted("m")], fleet([seat("a", "m"), seat("b"), seat("c", gpu=8)], "a"), [], NOW)
    assert done(plan) == [("fetch", "m", "c", "a")]
    assert plan.steps[0].processor == "gpu"


def test_two_lost_models_are_not_squeezed_into_the_room_of_one() -> None:
    models = [wanted("m"), wanted("n")]
    plan = repair(models, fleet([seat("a", "m", "n"), seat("b", ram=4), seat("c", ram=5)], "a"), [], NOW)
    assert {step.worker for step in plan.steps} == {"b", "c"}
    assert not plan.short


def test_what_fits_nowhere_is_told_with_each_workers_reason() -> None:
    plan = repair(
        [wanted("m", 20)], fleet([seat("a", "m"), seat("b", ram=8), seat("c", closed="drained")], "a"), [], NOW
    )
    assert plan == Repairs((), (Short("m", "a", "b: needs 20 GB; free: 8 GB in RAM; c: drained"),))


def test_a_worker_that_has_failed_is_passed_over() -> None:
    now = fleet([seat("a", "m"), seat("b"), seat("c")], "a")
    first = repair([wanted("m")], now, [], NOW).steps[0].worker
    other = repair([wanted("m")], dataclasses.replace(now, failed={("m", first): "disk full"}), [], NOW).steps[0].worker
    assert {first, other} == {"b", "c"}


def test_a_model_that_is_everywhere_waits_for_its_worker() -> None:
    assert repair([wanted("m", replicas=None)], fleet([seat("a", "m"), seat("b", "m")], "a"), [], NOW) == Repairs()


def test_there_is_one_stand_in_for_each_and_another_when_that_is_lost_too() -> None:
    workers = [seat("a", "m"), seat("b", disk=["m"]), seat("c", disk=["m"])]
    placed: dict[str, dict[str, Processor]] = {"m": {"a": "cpu"}}
    assert done(repair([wanted("m")], fleet(workers, "a", placed), [stand_in("b", "a")], NOW)) == []
    assert done(repair([wanted("m")], fleet(workers, "a b", placed), [stand_in("b", "a")], NOW)) == [
        ("load", "m", "c", "a")
    ]


def test_what_was_added_for_there_was_much_to_do_stands_in_before_anybody_else() -> None:
    workers = [seat("a", "m"), seat("b", "m"), seat("c", disk=["m"])]
    placed: dict[str, dict[str, Processor]] = {"m": {"a": "cpu"}}
    plan = repair([wanted("m")], fleet(workers, "a", placed), [stand_in("b", LOAD)], NOW)
    assert done(plan) == [("adopt", "m", "b", "a")]
    assert done(repair([wanted("m")], fleet(workers, "", placed), [stand_in("b", LOAD)], NOW)) == []


def test_who_is_back_loads_it_before_the_stand_in_gives_it_up() -> None:
    placed: dict[str, dict[str, Processor]] = {"m": {"a": "cpu"}}
    now = fleet([seat("a", "m"), seat("b", "m")], placed=placed)
    cold = dataclasses.replace(now, loaded={"m": frozenset({"b"})})
    assert done(repair([wanted("m")], cold, [stand_in("b", "a")], NOW)) == [("load", "m", "a", "")]
    assert done(repair([wanted("m")], now, [stand_in("b", "a")], NOW)) == [("release", "m", "b", "a")]
    assert done(repair([wanted("m")], now, [stand_in("b", "a", NOW - 1)], NOW)) == []  # it may go again in a moment


def test_what_apply_has_changed_meanwhile_counts() -> None:
    workers = [seat("a"), seat("b", "m")]
    own: dict[str, dict[str, Processor]] = {"m": {"b": "cpu"}}
    other: dict[str, dict[str, Processor]] = {"m": {"c": "cpu"}}
    assert done(repair([wanted("m")], fleet(workers, placed=own), [stand_in("b", "a")], NOW)) == [
        ("forget", "m", "b", "a")
    ]
    assert done(repair([wanted("m")], fleet(workers, placed=other), [stand_in("b", "a")], NOW)) == [
        ("release", "m", "b", "a")
    ]
    assert done(repair([], fleet(workers, placed=other), [stand_in("b", "a")], NOW)) == [("release", "m", "b", "a")]


def test_a_healthy_worker_that_lost_its_copy_gets_it_again_and_a_cordoned_one_does_not() -> None:
    placed: dict[str, dict[str, Processor]] = {"m": {"a": "gpu"}}
    plan = repair([wanted("m")], fleet([seat("a")], placed=placed), [], NOW)
    assert (done(plan), plan.steps[0].processor) == ([("fetch", "m", "a", "")], "gpu")
    assert repair([wanted("m")], fleet([seat("a", closed="cordoned")], placed=placed), [], NOW) == Repairs()


def test_a_cordoned_worker_is_asked_to_release_nothing_and_the_other_of_two_stays() -> None:
    closed = seat("b", "m", closed="cordoned")
    placed: dict[str, dict[str, Processor]] = {"m": {"a": "cpu"}}
    both = [stand_in("b", "a"), stand_in("c", "a")]
    assert done(repair([], fleet([closed], placed={"m": {}}), [stand_in("b", "a")], NOW)) == []
    assert done(repair([wanted("m")], fleet([seat("a", "m"), closed], placed=placed), both[:1], NOW)) == []
    assert done(repair([wanted("m")], fleet([seat("a", "m"), closed, seat("c", "m")], "a", placed), both, NOW)) == []


MODELS = st.lists(st.sampled_from("mnop"), unique=True)


@given(st.lists(MODELS, min_size=2, max_size=6), st.sets(st.integers(0, 5)))
def test_no_step_touches_what_is_lost_puts_two_on_one_or_takes_more_than_there_is(
    holds: list[list[str]], gone: set[int]
) -> None:
    seats = [seat(f"w{i}", *models, ram=16) for i, models in enumerate(holds)]
    lost = " ".join(it.worker for i, it in enumerate(seats) if i in gone)
    now, models = fleet(seats, lost), [wanted(name, replicas=6) for name in "mnop"]
    plan = repair(models, now, [], NOW)
    room = {it.worker: 16 // 4 - len(it.held) for it in seats}
    for step in plan.steps:
        assert step.worker not in now.lost
        assert step.model not in seats[int(step.worker[1:])].held
        room[step.worker] -= 1
    assert min(room.values()) >= 0
    keys = [(step.model, step.worker) for step in plan.steps]
    assert len(keys) == len(set(keys))
    replicas_lost = sum(len(it.held) for it in seats if it.worker in now.lost)
    assert len(plan.steps) + len(plan.short) == replicas_lost
