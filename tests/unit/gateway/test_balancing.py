"""Who is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.balancing import LeastLoaded, RoundRobin, policy


@dataclass(frozen=True)
class W:
    name: str
    in_flight: int = 0
    slots: int = 1
    loaded: frozenset[str] = field(default_factory=frozenset)


HOT = frozenset(["m"])


def test_a_worker_that_has_the_model_in_memory_goes_before_an_idle_one_that_has_not() -> None:
    assert LeastLoaded().choose([W("cold"), W("hot", 1, 2, HOT)], "m").name == "hot"


def test_a_worker_whose_slots_are_all_taken_goes_after_one_that_must_load_first() -> None:
    assert LeastLoaded().choose([W("hot", 2, 2, HOT), W("cold", 0, 1)], "m").name == "cold"


def test_where_nobody_has_a_slot_the_shorter_queue_wins_and_then_memory() -> None:
    assert LeastLoaded().choose([W("hot", 4, 2, HOT), W("cold", 1, 1)], "m").name == "cold"
    assert LeastLoaded().choose([W("cold", 2, 2), W("hot", 1, 1, HOT)], "m").name == "hot"


def test_a_bigger_worker_takes_more() -> None:
    assert LeastLoaded().choose([W("small", 1, 2, HOT), W("big", 1, 8, HOT)], "m").name == "big"


def test_equals_take_turns() -> None:
    chooser, workers = LeastLoaded(), [W("a"), W("b"), W("c")]
    assert [chooser.choose(workers, "m").name for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_round_robin_goes_round_whatever_they_do() -> None:
    chooser = RoundRobin()
    workers = [W("a", 9), W("b"), W("c")]
    assert [chooser.choose(workers, "m").name for _ in range(4)] == ["a", "b", "c", "a"]


def test_round_robin_gives_one_who_comes_back_its_turn() -> None:
    chooser = RoundRobin()
    assert [chooser.choose([W("a"), W("b")], "m").name for _ in range(2)] == ["a", "b"]
    assert chooser.choose([W("a"), W("b"), W("c")], "m").name == "c"


@pytest.mark.parametrize("name", ["least_loaded", "round_robin"])
@given(data=st.data())
def test_one_of_the_candidates_is_chosen(name: str, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.booleans()), min_size=1))
    workers = [W(f"w{i}", n, slots, HOT if hot else frozenset()) for i, (n, slots, hot) in enumerate(numbers)]
    chooser = policy(name)  # type: ignore[arg-type]
    for _ in range(3):
        assert chooser.choose(workers, "m") in workers
