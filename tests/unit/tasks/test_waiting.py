from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.tasks.model import Spec, State, Task
from cluster_ai.tasks.waiting import Waiting


def task(name: str, priority: int = 0) -> Task:
    spec = Spec("custom", {"function": "f"}, priority=priority)
    return Task(name, "ada", spec, State.SENT, 1, 0.0, None, None, None, None)


def nobody(_: str) -> bool:
    return False


def test_the_next_are_by_priority_then_by_age() -> None:
    waiting = Waiting()
    for one in (task("old"), task("urgent", 5), task("new"), task("later", -1)):
        waiting.put(one, ("w1",), room=True)
    taken = [waiting.next(nobody, {"w1"}.__contains__, 9) for _ in range(4)]  # a worker takes one at a time
    assert taken == [["urgent"], ["old"], ["new"], ["later"]]
    assert not waiting


def test_who_waits_for_a_worker_that_is_away_keeps_no_others_waiting() -> None:
    waiting = Waiting()
    waiting.put(task("away"), ("w2",), room=False)
    waiting.put(task("full"), ("w2", "w3"), room=True)
    waiting.put(task("here"), ("w1", "w2"), room=True)
    assert waiting.next({"w1"}.__contains__, {"w1"}.__contains__, 9) == ["here"]
    assert waiting.next({"w1", "w2"}.__contains__, {"w1"}.__contains__, 9) == ["away"]
    assert waiting.next(nobody, {"w3"}.__contains__, 9) == ["full"]


def test_one_that_was_dropped_is_none_of_the_next_and_may_come_again() -> None:
    waiting = Waiting()
    waiting.put(task("a", 1), ("w1",), room=True)
    waiting.put(task("b"), ("w1",), room=True)
    waiting.drop("a")
    waiting.drop("unknown")
    assert len(waiting) == 1
    waiting.put(task("a", -1), ("w1",), room=True)
    assert [waiting.next(nobody, {"w1"}.__contains__, 9) for _ in range(3)] == [["b"], ["a"], []]


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.sets(st.sampled_from("abc"), min_size=1), st.booleans()), max_size=30),
    st.integers(1, 5),
)
def test_each_comes_once_however_many_are_asked_for(put: list[tuple[int, set[str], bool]], most: int) -> None:
    waiting, found = Waiting(), list[str]()
    for number, (priority, workers, room) in enumerate(put):
        waiting.put(task(f"{number}", priority), workers, room=room)
    while some := waiting.next("abc".__contains__, "abc".__contains__, most):
        assert len(some) <= most
        found += some
    assert sorted(found) == sorted(f"{number}" for number in range(len(put)))
    assert not waiting
