"""Who of those that wait goes next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.admission.queue import PATIENCE, FairQueue, FullError, Ticket

ARRIVALS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-1, 2)), max_size=40)


def queue(*arrivals: tuple[str, int], limit: int = 100) -> FairQueue[int]:
    made: FairQueue[int] = FairQueue(limit)
    for n, (owner, priority) in enumerate(arrivals):
        made.put(Ticket(owner, priority, n))
    return made


def drained(waiting: FairQueue[int], held: dict[str, int] | None = None) -> list[Ticket[int]]:
    return [waiting.take(held or {}) for _ in range(len(waiting))]


def test_one_users_requests_go_in_the_order_in_which_they_came() -> None:
    assert [t.holder for t in drained(queue(("a", 0), ("a", 0), ("a", 0)))] == [0, 1, 2]


def test_users_take_turns_however_many_requests_each_has() -> None:
    order = drained(queue(*[("a", 0)] * 5, *[("b", 0)] * 2))
    assert "".join(t.owner for t in order) == "ababaaa"


def test_whoever_holds_fewer_slots_goes_first() -> None:
    assert "".join(t.owner for t in drained(queue(("a", 0), ("b", 0), ("a", 0)), {"a": 2, "b": 1})) == "baa"


def test_a_higher_priority_goes_first() -> None:
    assert [t.owner for t in drained(queue(("low", -1), ("normal", 0), ("high", 5)))] == ["high", "normal", "low"]


def test_a_low_priority_gets_a_turn_though_higher_ones_never_cease() -> None:
    waiting = queue(("low", -1), ("high", 3))
    taken = []
    for n in range(PATIENCE + 1):
        taken.append(waiting.take({}).owner)
        waiting.put(Ticket("high", 3, n))
    assert taken == ["high"] * PATIENCE + ["low"]


def test_who_leaves_makes_room_and_is_never_taken() -> None:
    waiting: FairQueue[int] = FairQueue(1)
    gone = Ticket("a", 0, 1)
    waiting.put(gone)
    waiting.remove(gone)
    assert waiting.put(Ticket("b", 0, 2)) is None
    assert [t.owner for t in drained(waiting)] == ["b"]
    with pytest.raises(KeyError):
        waiting.remove(gone)


def test_who_floods_a_full_queue_gives_way_to_others_and_not_to_themselves() -> None:
    waiting = queue(*[("flood", 0)] * 3, limit=3)
    with pytest.raises(FullError):
        waiting.put(Ticket("flood", 0, 9))
    out = waiting.put(Ticket("other", 0, 9))
    assert out is not None
    assert (out.owner, out.holder) == ("flood", 2)  # the one that waits for the shortest time
    with pytest.raises(FullError):
        waiting.put(Ticket("other", 0, 10))  # two each would be no fairer than two and one


def test_a_full_queue_makes_room_for_a_higher_priority_only() -> None:
    waiting = queue(("a", 0), ("b", 0), limit=2)
    with pytest.raises(FullError):
        waiting.put(Ticket("c", -1, 9))
    assert waiting.put(Ticket("c", 1, 9)) is not None


def test_a_queue_without_places_takes_nobody() -> None:
    with pytest.raises(FullError):
        queue(("a", 0), limit=0)


@given(ARRIVALS, st.integers(1, 12))
def test_the_queue_is_bounded_and_loses_nobody_silently(arrivals: list[tuple[str, int]], limit: int) -> None:
    waiting: FairQueue[int] = FairQueue(limit)
    refused = 0
    for n, (owner, priority) in enumerate(arrivals):
        try:
            refused += waiting.put(Ticket(owner, priority, n)) is not None
        except FullError:
            refused += 1
        assert len(waiting) <= limit
    assert len({t.holder for t in drained(waiting)}) + refused == len(arrivals)


@given(ARRIVALS)
def test_nobody_starves(arrivals: list[tuple[str, int]]) -> None:
    """A request waits for a bounded number of turns, while new ones of the highest priority keep coming."""
    waiting = queue(*arrivals)
    bound = (len(arrivals) + 1) * (PATIENCE + 4)
    for n in range(bound):
        waiting.put(Ticket("busy", 9, 1000 + n))
        waiting.take({})
    assert all(t.holder >= 1000 for t in drained(waiting))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_while_users_wait_none_gets_ahead_of_another_by_more_than_one(owners: list[str]) -> None:
    waiting, total = queue(*[(owner, 0) for owner in owners]), Counter(owners)
    got: Counter[str] = Counter()
    for ticket in drained(waiting):
        got[ticket.owner] += 1
        still = [got[owner] for owner in total if got[owner] < total[owner]]
        assert not still or got[ticket.owner] <= min(still) + 1
