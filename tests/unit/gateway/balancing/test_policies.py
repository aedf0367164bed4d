"""Who is chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.balancing import POLICIES, Balancer, LeastLoaded, ResourceAware, RoundRobin, Wish
from tests.unit.gateway.balancing.workers import HOT, Ask, W


def test_a_worker_that_has_the_model_in_memory_goes_before_an_idle_one_that_has_not() -> None:
    assert LeastLoaded().choose([W("cold"), W("hot", 1, 2, HOT)], Ask()).name == "hot"


def test_a_worker_whose_slots_are_all_taken_goes_after_one_that_must_load_first() -> None:
    assert LeastLoaded().choose([W("hot", 2, 2, HOT), W("cold", 0, 1)], Ask()).name == "cold"


def test_where_nobody_has_a_slot_the_shorter_queue_wins_and_then_memory() -> None:
    assert LeastLoaded().choose([W("hot", 4, 2, HOT), W("cold", 1, 1)], Ask()).name == "cold"
    assert LeastLoaded().choose([W("cold", 2, 2), W("hot", 1, 1, HOT)], Ask()).name == "hot"


def test_a_bigger_worker_takes_more() -> None:
    assert LeastLoaded().choose([W("small", 1, 2, HOT), W("big", 1, 8, HOT)], Ask()).name == "big"


def test_equals_take_turns() -> None:
    chooser, workers = LeastLoaded(), [W("a"), W("b"), W("c")]
    assert [chooser.choose(workers, Ask()).name for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_a_fast_worker_that_is_busy_goes_before_an_idle_slow_one() -> None:
    slow, fast = W("slow", 0, 2, HOT, rate=8.0), W("fast", 2, 4, HOT, rate=90.0)
    assert ResourceAware().choose([slow, fast], Ask()) is fast
    assert ResourceAware().choose([slow, W("fast", 60, 4, HOT, rate=90.0)], Ask()) is slow


def test_a_worker_that_was_not_measured_yet_is_tried() -> None:
    assert ResourceAware().choose([W("known", 0, 1, HOT, rate=50.0), W("new", 0, 1, HOT)], Ask()).name == "known"
    assert ResourceAware().choose([W("known", 1, 2, HOT, rate=50.0), W("new", 0, 1, HOT)], Ask()).name == "new"


def test_a_model_is_loaded_where_no_other_must_go_for_it() -> None:
    assert ResourceAware().choose([W("tight", fits=False), W("roomy", fits=True)], Ask()).name == "roomy"
    assert ResourceAware().choose([W("tight", fits=False), W("hot", 1, 2, HOT)], Ask()).name == "hot"


def test_round_robin_goes_round_whatever_they_do() -> None:
    chooser = RoundRobin()
    workers = [W("a", 9), W("b"), W("c")]
    assert [chooser.choose(workers, Ask()).name for _ in range(4)] == ["a", "b", "c", "a"]


def test_round_robin_gives_one_who_comes_back_its_turn() -> None:
    chooser = RoundRobin()
    assert [chooser.choose([W("a"), W("b")], Ask()).name for _ in range(2)] == ["a", "b"]
    assert chooser.choose([W("a"), W("b"), W("c")], Ask()).name == "c"


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(data=st.data())
def test_one_of_the_candidates_is_chosen(name: str, data: st.DataObject) -> None:
    numbers = st.tuples(
        st.integers(0, 9),
        st.integers(0, 4),
        st.booleans(),
        st.tuples(st.none() | st.booleans(), st.none() | st.floats(0, 1e6)),
    )
    chooser = POLICIES[name]()
    for _ in range(4):
        drawn = data.draw(st.dictionaries(st.sampled_from("abcde"), numbers, min_size=1))
        workers = [W(i, n, slots, HOT if hot else frozenset(), *r) for i, (n, slots, hot, r) in drawn.items()]
        said = data.draw(st.lists(st.sampled_from(["", "x", "yy"]), max_size=4))
        assert chooser.choose(workers, Ask(tuple(said))) in workers


@pytest.mark.parametrize("name", ["affinity", "least_loaded", "resource_aware"])
def test_of_very_many_one_that_is_free_is_found_and_all_get_their_turn(name: str) -> None:
    full = [W(f"full{i}", 2, 2, HOT) for i in range(100)]
    assert POLICIES[name]().choose([*full, W("free", 1, 2, HOT)], Ask()).name == "free"
    chooser, workers = POLICIES[name](), [W(f"w{i}", 0, 2, HOT) for i in range(100)]
    assert len({chooser.choose(workers, Ask((f"{i}" * 50,))).name for i in range(120)}) == 100


def test_a_request_may_wish_for_a_policy_and_the_clusters_own_is_kept() -> None:
    balancer, workers = Balancer("round_robin"), [W("a", 1), W("b")]
    chosen = [balancer.choose(workers, Ask(wish=Wish(policy))).name for policy in ("", "least_loaded", "", "")]
    assert chosen == ["a", "b", "b", "a"]
