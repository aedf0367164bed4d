from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.rollout.waves import Wave, budget, waves

NAMES = st.lists(st.sampled_from([f"h{n}" for n in range(12)]), unique=True)


@given(NAMES, st.sets(st.sampled_from([f"h{n}" for n in range(12)])), st.integers(1, 5))
def test_every_host_that_changes_is_in_exactly_one_wave(names: list[str], new: set[str], size: int) -> None:
    groups = waves(names, head="h0", new=frozenset(new), size=size)
    assert sorted(name for group in groups for name in group.hosts) == sorted(names)


@given(NAMES, st.sets(st.sampled_from([f"h{n}" for n in range(12)])), st.integers(1, 5))
def test_no_more_hosts_that_serve_are_out_at_once_than_allowed(names: list[str], new: set[str], size: int) -> None:
    for group in waves(names, head="h0", new=frozenset(new), size=size):
        assert sum(name not in new for name in group.hosts) <= size


def test_a_head_that_serves_goes_alone_then_the_new_then_the_others() -> None:
    groups = waves(["h0", "h1", "h2", "h3", "h4"], head="h0", new=frozenset({"h3", "h4"}), size=1)
    assert [group.hosts for group in groups] == [("h0",), ("h3", "h4"), ("h1",), ("h2",)]


def test_a_first_release_is_one_wave() -> None:
    names = ["h0", "h1", "h2"]
    assert waves(names, head="h0", new=frozenset(names), size=1) == (Wave(tuple(names), "first"),)


def test_a_share_is_of_all_workers_and_never_less_than_one() -> None:
    assert budget(0.25, 10) == 2
    assert budget(0.1, 4) == 1
    assert budget(1.0, 4) == 4
    assert budget(3, 10) == 3


def test_workers_that_are_down_already_count() -> None:
    assert budget(3, 10, down=1) == 2
    assert budget(1, 10, down=4) == 1
